"""Django with the gate among its middlewares: a marked view, a form, rules in the settings.

Run it in this folder:

    gunicorn django_settings_app:application
    uvicorn django_settings_app:asgi_application
"""

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import path

from tcaptcha_middleware import get_decision
from tcaptcha_middleware.integrations.django import captcha_required

HOME = """{% load tcaptcha %}<!doctype html>
<html lang="en">
<title>Log in</title>
{% tcaptcha_script %}
<form data-tcaptcha action="/login" method="post">
  <input name="user" required> <button>Log in</button>
</form>
</html>
"""

# In a project, all of this is in settings.py.
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    INSTALLED_APPS=["tcaptcha_middleware.integrations.django"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "tcaptcha_middleware.integrations.django.CaptchaMiddleware",
        "django.middleware.common.CommonMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for this example only",
    TCAPTCHA={
        # Beside the marked views; the verifier is read from the environment.
        "RULES": ["UNSAFE /api/**"],
        "EXEMPT": ["POST /api/webhook"],
        "PAGE": "/tcaptcha",
    },
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "loaders": [("django.template.loaders.locmem.Loader", {"home.html": HOME})]
            },
        }
    ],
)
django.setup()


def home(request: HttpRequest) -> HttpResponse:
    """Show the form."""
    return render(request, "home.html")


@captcha_required
def login(request: HttpRequest) -> HttpResponse:
    """Greet the visitor, whose ticket the gate has verified."""
    decision = get_decision(request)
    code = decision.code if decision else None
    return JsonResponse({"hello": request.POST.get("user", "stranger"), "captchaCode": code})


def webhook(_: HttpRequest) -> HttpResponse:
    """Accept a message from a machine, which cannot solve a captcha."""
    return HttpResponse("Thanks.")


urlpatterns = [path("", home), path("login", login), path("api/webhook", webhook)]

application = get_wsgi_application()
asgi_application = get_asgi_application()
