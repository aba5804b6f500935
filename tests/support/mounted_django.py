"""A Django site that `FORCE_SCRIPT_NAME` mounts at `/shop`; see `gated_apps`."""

from __future__ import annotations

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        FORCE_SCRIPT_NAME="/shop",
        ROOT_URLCONF=__name__,
        SECRET_KEY="x",
    )
    django.setup()

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from gated_apps import answer_of

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier


def _login(request):
    body, headers = answer_of("login", request.method, request.path, b"")
    return HttpResponse(body, headers=headers)


urlpatterns = [path("login", _login)]

GUARDS = {
    "": Guard(["POST /login"], FakeVerifier()),
    "full": Guard(["POST /shop/login"], FakeVerifier()),
}
ASGI = {"ungated": get_asgi_application()}
WSGI = {"ungated": get_wsgi_application()}
for name, guard in GUARDS.items():
    ASGI[name] = TCaptchaMiddleware(get_asgi_application(), guard)
    WSGI[name] = TCaptchaWSGIMiddleware(get_wsgi_application(), guard)


async def asgi(scope, receive, send):
    app = dict(scope["headers"]).get(b"x-app", b"").decode()
    await ASGI[app.partition(" ")[2]](scope, receive, send)


def wsgi(environ, start_response):
    return WSGI[environ.get("HTTP_X_APP", "").partition(" ")[2]](environ, start_response)
