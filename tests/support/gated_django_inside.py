"""The site of `gated_django` with the gate among Django's middlewares, for real servers.

The variable `GATE` names the guard of `gated_apps`, and `BEHIND` what is behind the gate.
"""

from __future__ import annotations

import os

import gated_django  # noqa: F401  configures Django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from gated_apps import GUARD, WEAK_FIRST

from tcaptcha_middleware import Guard
from tcaptcha_middleware.testing import FakeVerifier

GATE, BEHIND = os.environ.get("GATE", ""), os.environ.get("BEHIND", "")
settings.MIDDLEWARE = [
    *(["tcaptcha_middleware.integrations.django.CaptchaMiddleware"] if GATE else []),
    "django.middleware.common.CommonMiddleware",
    *(["django_inside.SyncOnly"] if BEHIND else []),
]
SLOW = Guard(["POST /login"], FakeVerifier(), body_timeout=0.5)
settings.TCAPTCHA = {
    "GUARD": {"": None, "guard": GUARD, "weak": WEAK_FIRST, "slow": SLOW}[GATE]
}

_ASGI, _WSGI = get_asgi_application(), get_wsgi_application()


async def asgi(scope, receive, send):
    headers = dict(scope.get("headers", ()))
    if b"x-root" in headers:
        scope["root_path"] = headers[b"x-root"].decode()
    await _ASGI(scope, receive, send)


def wsgi(environ, start_response):
    environ["SCRIPT_NAME"] = environ.get("HTTP_X_ROOT", environ["SCRIPT_NAME"])
    return _WSGI(environ, start_response)
