"""APIs for a frontend of another origin, each with the CORS extension of its framework.

The frontend's origin and the framework are environment variables. The extensions answer for the
application; the gate in front answers for itself, with `Guard(cors=…)`.
"""

from __future__ import annotations

import os
from typing import Any

from tcaptcha_middleware import (
    Guard,
    PlainResponse,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
)
from tcaptcha_middleware.testing import FakeVerifier

FRONTEND = os.environ["FRONTEND"]


def answer(request: Any, refuse: Any) -> PlainResponse:
    return PlainResponse(403, [("Content-Type", "text/plain")], b"our own envelope")


guard = Guard(
    ["POST /login", Rule("POST /enveloped", responder=answer)],
    FakeVerifier(),
    page="/tcaptcha",
    cors=[FRONTEND],
)


def _flask() -> Any:
    import flask
    import flask_cors

    app = flask.Flask(__name__)
    flask_cors.CORS(app, origins=[FRONTEND], allow_headers=["Content-Type"])
    for path in ("/login", "/enveloped"):
        app.add_url_rule(path, path, lambda: {"inside": True}, methods=["POST"])
    return TCaptchaWSGIMiddleware(app.wsgi_app, guard)


def _django() -> Any:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import JsonResponse
    from django.urls import path

    def inside(_: Any) -> JsonResponse:
        return JsonResponse({"inside": True})

    settings.configure(
        ROOT_URLCONF=(path("login", inside), path("enveloped", inside)),
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=["corsheaders"],
        MIDDLEWARE=["corsheaders.middleware.CorsMiddleware"],
        CORS_ALLOWED_ORIGINS=[FRONTEND],
    )
    django.setup()
    return TCaptchaWSGIMiddleware(get_wsgi_application(), guard)


def _quart() -> Any:
    import quart
    import quart_cors

    app = quart_cors.cors(quart.Quart(__name__), allow_origin=[FRONTEND], allow_headers=[])

    async def inside() -> dict[str, bool]:
        return {"inside": True}

    for path in ("/login", "/enveloped"):
        app.add_url_rule(path, path, inside, methods=["POST"])
    app.asgi_app = TCaptchaMiddleware(app.asgi_app, guard)
    return app


if os.environ["FRAMEWORK"] == "quart":
    asgi = _quart()
else:
    wsgi = {"flask": _flask, "django": _django}[os.environ["FRAMEWORK"]]()
