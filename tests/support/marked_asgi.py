"""ASGI frameworks whose handlers are marked, all in one application; see `gated_apps`.

In front is the gate that `protect` and `TCaptcha` put there, or none; see `VARIANTS`. Each
function calls `begin` with the application when it has only the routes of `WEAK`.
"""

from __future__ import annotations

import fastapi
import litestar
import quart
from gated_apps import MOUNTED, ROUTES, answer_of
from marked_wsgi import VARIANTS, WEAK
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute

from tcaptcha_middleware.integrations.fastapi import protect as protect_fastapi
from tcaptcha_middleware.integrations.fastapi import solved
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
from tcaptcha_middleware.integrations.quart import TCaptcha
from tcaptcha_middleware.integrations.starlette import protect as protect_starlette
from tcaptcha_middleware.integrations.starlette import required
from tcaptcha_middleware.testing import FakeVerifier


def at_once(_):
    """Add all routes before the first request."""


def starlette_view(name):
    async def handler(request: fastapi.Request):
        scope = request.scope
        body, headers = answer_of(name, scope["method"], scope["path"], await request.body())
        return Response(body, headers=headers)

    return handler


async def starlette_socket(websocket):
    await websocket.accept()
    await websocket.close()


def starlette_routes(settings, routes):
    for name, path, methods in routes:
        view = starlette_view(name)
        if name in settings:
            view = required(**settings[name])(view)
        yield Route(path.format("{x}"), view, methods=methods)


def starlette_app(settings, *, gated, begin=at_once):
    app = Starlette(routes=[*starlette_routes(settings, WEAK)])
    if gated:
        protect_starlette(app, FakeVerifier())
    begin(app)
    socket = required(starlette_socket) if settings else starlette_socket
    mounted = Starlette(routes=[*starlette_routes(settings, MOUNTED)])
    own = [*starlette_routes(settings, ROUTES), WebSocketRoute("/socket", socket)]
    app.routes.extend([*own, Mount("/mount", mounted)])
    return app


async def fastapi_socket(websocket: fastapi.WebSocket):
    await starlette_socket(websocket)


def fastapi_router(settings, routes):
    router = fastapi.APIRouter()
    for name, path, methods in routes:
        # FastAPI does not answer HEAD by itself.
        every = [*methods, "HEAD"] if "GET" in methods else methods
        marks = [fastapi.Depends(solved(**settings[name]))] if name in settings else []
        view = starlette_view(name)
        router.add_api_route(path.format("{x}"), view, methods=every, dependencies=marks)
    return router


def fastapi_app(settings, *, gated, begin=at_once):
    app, mounted = fastapi.FastAPI(), fastapi.FastAPI()
    if gated:
        protect_fastapi(app, FakeVerifier())
    app.include_router(fastapi_router(settings, WEAK))
    begin(app)
    app.include_router(fastapi_router(settings, ROUTES))
    marks = [fastapi.Depends(solved())] if settings else []
    app.add_api_websocket_route("/socket", fastapi_socket, dependencies=marks)
    mounted.include_router(fastapi_router(settings, MOUNTED))
    app.mount("/mount", mounted)
    return app


async def litestar_socket(socket: litestar.WebSocket) -> None:
    await starlette_socket(socket)


def litestar_handlers(settings, routes):
    def view(name):
        async def answer(request: litestar.Request) -> litestar.Response:
            scope, content = request.scope, await request.body()
            body, headers = answer_of(name, scope["method"], scope["path"], content)
            return litestar.Response(body, headers=headers)

        return answer

    for name, path, methods in routes:
        # Litestar does not answer HEAD by itself.
        every = [*methods, "HEAD"] if "GET" in methods else methods
        route = litestar.route(
            path.format("{x:str}"),
            http_method=every,
            status_code=200,
            opt={"tcaptcha": settings.get(name, False)},
        )
        yield route(view(name))


def litestar_plain(settings, routes):
    plugins = [TCaptchaPlugin(verifier=FakeVerifier())] if settings else []
    handlers = litestar_handlers(settings, routes)
    return litestar.Litestar(handlers, openapi_config=None, plugins=plugins)


def litestar_app(settings, *, gated, begin=at_once):
    app, mounted = litestar_plain(settings, WEAK), litestar_plain(settings, MOUNTED)
    begin(app)
    socket = litestar.handlers.websocket("/socket", opt={"tcaptcha": bool(settings)})
    mount = litestar.asgi("/mount", is_mount=True, copy_scope=True)
    for handler in [*litestar_handlers(settings, ROUTES), socket(litestar_socket)]:
        app.register(handler)
    app.register(mount(mounted))
    if settings and not gated:
        for gated_app in (app, mounted):
            gated_app.asgi_router = gated_app.asgi_router._router
            gated_app.asgi_handler = gated_app._create_asgi_handler()
    return app


async def quart_socket():
    await quart.websocket.accept()


def quart_app(settings, *, gated, begin=at_once):
    def view(name):
        async def handler(**_):
            request = quart.request
            return answer_of(name, request.method, request.path, await request.get_data())

        return captcha.required(**settings[name])(handler) if name in settings else handler

    app, captcha = quart.Quart("marked"), TCaptcha(verifier=FakeVerifier())
    app.url_map.strict_slashes = False
    if gated:
        captcha.init_app(app)
    for name, path, methods in [*WEAK, *ROUTES, ("mounted", "/mount/login", ["POST"])]:
        if (name, path, methods) == ROUTES[0]:
            begin(app)
            app._got_first_request = False  # after which Quart itself adds no view
        app.add_url_rule(path.format("<x>"), name, view(name), methods=methods)
    socket = captcha.required(quart_socket) if settings else quart_socket
    app.add_websocket("/socket", "socket", socket)
    return app


MAKE = {
    "fastapi": fastapi_app,
    "litestar": litestar_app,
    "quart": quart_app,
    "starlette": starlette_app,
}
APPS = {
    (name, variant): make(settings, gated=gated)
    for name, make in MAKE.items()
    for variant, (settings, gated) in VARIANTS.items()
}


async def asgi(scope, receive, send):
    headers = dict(scope.get("headers", ()))
    name, _, variant = headers.get(b"x-app", b"starlette").decode().partition(" ")
    if b"x-root" in headers:
        scope["root_path"] = headers[b"x-root"].decode()
    await APPS[name, variant](scope, receive, send)
    if scope["type"] == "lifespan":
        print("the lifespan is over", flush=True)  # noqa: T201
