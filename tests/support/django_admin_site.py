"""An admin site whose login needs a captcha, without a database, for gunicorn."""

from __future__ import annotations

import django
from django.conf import settings

from tcaptcha_middleware import csp_sources
from tcaptcha_middleware.testing import FakeVerifier

if not settings.configured:
    APP = "tcaptcha_middleware.integrations.django"
    VERIFIER = FakeVerifier()
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
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
    )
    django.setup()

from django.contrib import admin
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

admin.site.login_template = "tcaptcha/admin_login.html"


def done(request):
    tickets = [submission.ticket for submission in settings.TCAPTCHA["VERIFIER"].tickets]
    return HttpResponse(f"{request.user.username} {len(tickets)}")


urlpatterns = [path("admin/", admin.site.urls), path("done", done)]
wsgi = get_wsgi_application()
