"""ASGI frameworks behind the gate, all in one application; see `gated_apps`.

The server's lifespan is that of the Starlette application.
"""

from __future__ import annotations

from contextlib import asynccontextmanager

import falcon.asgi
import fastapi
import gated_django  # noqa: F401  configures Django
import litestar
import quart
from django.core.asgi import get_asgi_application
from gated_apps import GUARD, MOUNTED, ROUTES, answer_of, gates, override
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute

from tcaptcha_middleware import TCaptchaMiddleware
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin

SOCKETS = ["/socket", "/free/socket"]
lifespans = []


async def starlette_answer(name, request):
    body, headers = answer_of(name, request.method, request.scope["path"], await request.body())
    return Response(body, headers=headers | {"The-Lifespan": " ".join(lifespans)})


def starlette_view(name):
    async def handler(request: fastapi.Request):
        return await starlette_answer(name, request)

    return handler


async def starlette_socket(websocket: fastapi.WebSocket):
    await websocket.accept()
    await websocket.close()


@asynccontextmanager
async def lifespan(app):
    lifespans.append("begun")
    yield
    print("the lifespan is over", flush=True)  # noqa: T201


def starlette_app(routes=ROUTES):
    served = [Route(p.format("{x}"), starlette_view(n), methods=m) for n, p, m in routes]
    if routes is not ROUTES:
        return Starlette(routes=served)
    sockets = [WebSocketRoute(path, starlette_socket) for path in SOCKETS]
    mount = Mount("/mount", starlette_app(MOUNTED))
    return Starlette(routes=[*served, *sockets, mount], lifespan=lifespan)


def fastapi_app(routes=ROUTES):
    app = fastapi.FastAPI()
    for name, path, methods in routes:
        app.add_api_route(path.format("{x}"), starlette_view(name), methods=methods)
        if "GET" in methods:
            app.add_api_route(path.format("{x}"), starlette_view(name), methods=["HEAD"])
    if routes is ROUTES:
        for path in SOCKETS:
            app.add_api_websocket_route(path, starlette_socket)
        app.mount("/mount", fastapi_app(MOUNTED))
    return app


def quart_app():
    def view(name):
        async def handler(**_):
            request = quart.request
            return answer_of(name, request.method, request.path, await request.get_data())

        return handler

    async def socket():
        await quart.websocket.accept()

    app = quart.Quart("gated")
    app.url_map.strict_slashes = False
    for name, path, methods in [*ROUTES, ("mounted", "/mount/login", ["POST"])]:
        app.add_url_rule(path.format("<x>"), name, view(name), methods=methods)
    for path in SOCKETS:
        app.add_websocket(path, path.strip("/").replace("/", "-"), socket)
    return app


def litestar_app(routes=ROUTES, **settings):
    def handler(name, path, methods):
        async def answer(request: litestar.Request) -> litestar.Response:
            scope = request.scope
            body, headers = answer_of(
                name, scope["method"], scope["path"], await request.body()
            )
            return litestar.Response(body, headers=headers)

        return litestar.route(path.format("{x:str}"), http_method=methods, status_code=200)(
            answer
        )

    async def socket(socket: litestar.WebSocket) -> None:
        await socket.accept()
        await socket.close()

    handlers = [
        handler(name, path, [*methods, "HEAD"] if "GET" in methods else methods)
        for name, path, methods in routes
    ]
    if routes is ROUTES:
        handlers += [litestar.handlers.websocket(path)(socket) for path in SOCKETS]
        mounted = litestar_app(MOUNTED)
        gated = TCaptchaMiddleware(mounted, GUARD)
        for path, app in {"/mount": mounted, "/gated": gated}.items():
            handlers.append(litestar.asgi(path, is_mount=True, copy_scope=True)(app))
    return litestar.Litestar(handlers, openapi_config=None, **settings)


class FalconResource:
    def __init__(self, name, methods):
        self.name = name
        for method in methods:
            setattr(self, f"on_{method.lower()}", self.answer)
        if "GET" in methods:
            self.on_head = self.answer

    async def answer(self, req, resp, **_):
        body = await req.stream.read()
        resp.data, headers = answer_of(self.name, req.method, req.path, body)
        resp.set_headers(headers)


class FalconSocket:
    async def on_websocket(self, req, ws):
        await ws.accept()
        await ws.close()


def falcon_app():
    app = falcon.asgi.App()
    app.req_options.strip_url_path_trailing_slash = True
    for name, path, methods in [*ROUTES, ("mounted", "/mount/login", ["POST"])]:
        app.add_route(path.format("{x}"), FalconResource(name, methods))
    for path in SOCKETS:
        app.add_route(path, FalconSocket())
    return app


UNGATED = {
    "django": get_asgi_application(),
    "falcon": falcon_app(),
    "fastapi": fastapi_app(),
    "litestar": litestar_app(),
    "quart": quart_app(),
    "starlette": starlette_app(),
}


def overriding(app):
    async def overridden(scope, receive, send):
        if scope["type"] == "http":
            header = dict(scope["headers"]).get(b"x-verb", b"").decode()
            method = override(scope["method"], scope["query_string"].decode(), header)
            scope = scope | {"method": method}
        await app(scope, receive, send)

    return overridden


APPS = {
    (name, gate): wrap(app)
    for gate, wrap in gates(TCaptchaMiddleware, overriding).items()
    for name, app in UNGATED.items()
}
APPS["litestar", "plugin"] = litestar_app(plugins=[TCaptchaPlugin(GUARD)])


async def asgi(scope, receive, send):
    headers = dict(scope.get("headers", ()))
    name, _, gate = headers.get(b"x-app", b"starlette").decode().partition(" ")
    if b"x-root" in headers:
        scope["root_path"] = headers[b"x-root"].decode()
    await APPS[name, gate](scope, receive, send)
