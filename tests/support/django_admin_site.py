"""An admin site whose login needs a captcha, without a database, for gunicorn."""

from __future__ import annotations

import django
from django.conf import settings

from tcaptcha_middleware import csp_sources
from tcaptcha_middleware.testing import FakeVerifier

if not settings.configured:
    APP = "tcaptcha_middleware.integrations.django"
    VERIFIER = FakeVerifier()
    EXPIRES_ONCE = FakeVerifier(8, 1)
    LOGIN = """{% load tcaptcha %}<!doctype html><title>Log in</title>{% tcaptcha_script %}
    <form data-tcaptcha method="post">
    {% csrf_token %} {{ form }} <button>Log in</button></form>"""
    SOURCES = {name: list(values) for name, values in csp_sources(VERIFIER).items()}
    NONCE = "<CSP_NONCE_SENTINEL>"  # what django.utils.csp.CSP.NONCE stands for
    POLICY = {name: ["'self'", *values] for name, values in SOURCES.items()}
    # Without 'self': what has no nonce, such as the admin's theme.js, is blocked.
    POLICY["script-src"] = [NONCE, *SOURCES["script-src"]]
    HAS_CSP = django.VERSION >= (6,)
    CSP = ["django.middleware.csp.ContentSecurityPolicyMiddleware"] if HAS_CSP else []
    CONTRIB = ["admin", "auth", "contenttypes", "messages", "sessions"]
    settings.configure(
        ALLOWED_HOSTS=["*"],
        AUTHENTICATION_BACKENDS=["django_admin_backend.Backend"],
        INSTALLED_APPS=[APP, *(f"django.contrib.{name}" for name in CONTRIB)],
        MIDDLEWARE=[
            *CSP,
            "django.contrib.sessions.middleware.SessionMiddleware",
            f"{APP}.CaptchaMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        ROOT_URLCONF=__name__,
        SECRET_KEY="x",
        SECURE_CSP=POLICY,
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        STATIC_URL="/static/",
        TCAPTCHA={"RULES": ["POST /admin/login"], "PAGE": "/tcaptcha", "VERIFIER": VERIFIER},
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {
                    "loaders": [
                        "django.template.loaders.app_directories.Loader",
                        ("django.template.loaders.locmem.Loader", {"login.html": LOGIN}),
                    ],
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ],
                },
            }
        ],
    )
    django.setup()

from django.contrib import admin
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator

from tcaptcha_middleware.integrations.django import captcha_required
from tcaptcha_middleware.integrations.django.forms import CaptchaFormMixin

admin.site.login_template = "tcaptcha/admin_login.html"


def done(request):
    tickets = [submission.ticket for submission in settings.TCAPTCHA["VERIFIER"].tickets]
    return HttpResponse(f"{request.user.username} {len(tickets)}")


class LoginForm(CaptchaFormMixin, AuthenticationForm):
    pass


@method_decorator(captcha_required(mode="defer", verifier=EXPIRES_ONCE), name="dispatch")
class Login(LoginView):
    form_class = LoginForm
    next_page = "/done"
    template_name = "login.html"


urlpatterns = [
    path("login", Login.as_view()),
    path("admin/", admin.site.urls),
    path("done", done),
]
wsgi = get_wsgi_application()
