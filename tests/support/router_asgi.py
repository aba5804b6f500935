"""ASGI frameworks whose routers answer to more than their routes' text; see `router_apps`.

The server's lifespan is that of the BlackSheep application, which cannot do without.
"""

from __future__ import annotations

import blacksheep
import falcon.asgi
import fastapi
import router_django  # noqa: F401  configures Django
from django.core.asgi import get_asgi_application
from gated_apps import answer_of
from router_apps import gates, require
from starlette.responses import Response

from tcaptcha_middleware import TCaptchaMiddleware


def blacksheep_app():
    app = blacksheep.Application(router=blacksheep.Router())

    async def login(request: blacksheep.Request):
        body, headers = answer_of("login", request.method, request.scope["path"], b"")
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        return blacksheep.Response(200, raw, blacksheep.Content(b"text/plain", body))

    async def stopped(_):
        print("the lifespan is over", flush=True)  # noqa: T201

    app.router.add_post("/login", login)
    app.on_stop += stopped
    return app


def fastapi_app():
    async def login(request: fastapi.Request):
        body, headers = answer_of("login", request.method, request.scope["path"], b"")
        return Response(body, headers=headers)

    app = fastapi.FastAPI(root_path="/api")
    app.add_api_route("/login", login, methods=["POST"])
    return app


class Login:
    async def on_post(self, req, resp):
        resp.data, headers = answer_of("login", req.method, req.path, b"")
        resp.set_headers(headers)


async def sink(req, resp):
    require(req)
    resp.data, headers = answer_of("sign_in", req.method, req.path, b"")
    resp.set_headers(headers)


def falcon_app():
    app = falcon.asgi.App()
    app.add_sink(sink, "/sign_in")
    app.add_route("/login", Login())
    return app


APPS = gates(
    TCaptchaMiddleware,
    {
        "blacksheep": blacksheep_app(),
        "django": get_asgi_application(),
        "falcon": falcon_app(),
        "fastapi": fastapi_app(),
    },
)


async def asgi(scope, receive, send):
    headers = dict(scope.get("headers", ()))
    name, _, gate = headers.get(b"x-app", b"blacksheep").decode().partition(" ")
    await APPS[name, gate](scope, receive, send)
