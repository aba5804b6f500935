"""What each framework's reader returns: nine frameworks, each with the same kinds of routes.

The examples of every route are requested from the application, so they are true.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from contextlib import nullcontext, suppress
from types import ModuleType

import bottle
import falcon
import falcon.asgi
import fastapi
import flask
import httpx
import litestar
import litestar.response
import pytest
import quart
import router_django  # noqa: F401  configures Django
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.test import override_settings
from django.urls import include, path, re_path
from litestar.types import Receive, Scope, Send  # noqa: TC002  Litestar reads them
from pyramid.config import Configurator
from pyramid.response import Response as PyramidResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router, WebSocketRoute
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tcaptcha_middleware import ConfigurationError, Guard
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.integrations.routes.rule_set import answered_methods, written
from tcaptcha_middleware.testing import FakeVerifier

CASES = {}


def serves(*rows):
    """Register a function that returns an application, or Django's URL patterns.

    One that adds a route later yields them first.
    """

    def register(build):
        CASES[build.__name__] = build, list(rows)
        return build

    return register


def row(route):
    if route.opaque:
        return f"opaque {route.path}"
    methods = "*" if route.methods is None else ",".join(written(route.methods))
    return f"{'WEBSOCKET' if route.websocket else methods} {route.path}"


# -- FastAPI ------


def fastapi_app(kind=fastapi.FastAPI, **settings):
    return kind(openapi_url=None, **settings) if kind is fastapi.FastAPI else kind(**settings)


async def socket(websocket: fastapi.WebSocket):
    await websocket.accept()


def nothing():
    return None


@serves("POST /login", "GET,POST /form")
def fastapi_plain():
    app = fastapi_app()
    app.post("/login")(nothing)
    app.api_route("/form", methods=["GET", "POST"])(nothing)
    return app


@serves("POST /v1/login", "GET /v1/page/{number}")
def fastapi_prefix():
    app, router = fastapi_app(), fastapi.APIRouter(prefix="/v1")
    router.post("/login")(nothing)
    router.get("/page/{number}")(nothing)
    app.include_router(router)
    return app


@serves("POST /api/v1/users/login", "WEBSOCKET /api/v1/users/{user}/ws", "GET /api/raw")
def fastapi_nested():
    app, outer, inner = (
        fastapi_app(),
        fastapi.APIRouter(prefix="/v1"),
        fastapi.APIRouter(prefix="/users"),
    )
    inner.post("/login")(nothing)
    inner.websocket("/{user}/ws")(socket)
    outer.include_router(inner)
    outer.add_route("/raw", lambda _: PlainTextResponse())
    app.include_router(outer, prefix="/api")
    return app


@serves("POST /shop/login", "GET /v1/old/page")
def fastapi_mount():
    app, shop, router = fastapi_app(), fastapi_app(), fastapi.APIRouter()
    shop.post("/login")(nothing)
    app.mount("/shop", shop)
    router.mount("/old", Starlette(routes=[Route("/page", lambda _: PlainTextResponse())]))
    app.include_router(router, prefix="/v1")
    return app


@serves("POST /users/{id}/{size}", "PUT /files/{name:path}")
def fastapi_converter():
    app = fastapi_app()
    app.post("/users/{id:int}/{size:float}")(nothing)
    app.put("/files/{name:path}")(nothing)
    return app


@serves("POST /v1/login", "POST /late")
def fastapi_late():
    app, router = fastapi_app(), fastapi.APIRouter(prefix="/v1")
    app.include_router(router)
    yield app
    router.post("/login")(nothing)
    app.post("/late")(nothing)


@serves("WEBSOCKET /ws/{room}")
def fastapi_websocket():
    app = fastapi_app()
    app.websocket("/ws/{room}")(socket)
    return app


# -- Starlette ------


def page(_):
    return PlainTextResponse()


@serves("POST /login", "GET /page", "* /any")
def starlette_plain():
    return Starlette(
        routes=[
            Route("/login", page, methods=["POST"]),
            Route("/page", page),
            Route("/any", PlainTextResponse()),
        ]
    )


@serves("POST /v1/login")
def starlette_prefix():
    return Starlette(routes=[Mount("/v1", routes=[Route("/login", page, methods=["POST"])])])


@serves("POST /v1/users/login")
def starlette_nested():
    users = Router([Route("/login", page, methods=["POST"])])
    return Starlette(routes=[Mount("/v1", routes=[Mount("/users", users)])])


@serves("POST /shops/{shop}/login", "opaque /raw/{path:path}")
def starlette_mount():
    shop = Starlette(routes=[Route("/login", page, methods=["POST"])])
    return Starlette(
        routes=[Mount("/shops/{shop}", shop), Mount("/raw", PlainTextResponse("raw"))]
    )


@serves("GET /users/{id}/{key}", "GET /files/{name:path}")
def starlette_converter():
    return Starlette(
        routes=[Route("/users/{id:int}/{key:uuid}", page), Route("/files/{name:path}", page)]
    )


@serves("GET /late")
def starlette_late():
    app = Starlette()
    yield app
    app.router.routes.append(Route("/late", page))


@serves("WEBSOCKET /ws")
def starlette_websocket():
    return Starlette(routes=[WebSocketRoute("/ws", socket)])


# -- Litestar ------


def litestar_app(*handlers):
    return litestar.Litestar(list(handlers), openapi_config=None)


def handles(method, address):
    @litestar.route(address, http_method=method, status_code=200)
    async def handler() -> None:
        return None

    return handler


@serves("POST /login", "GET,POST /form")
def litestar_plain():
    return litestar_app(handles("POST", "/login"), handles(["GET", "POST"], "/form"))


@serves("POST /v1/login")
def litestar_prefix():
    return litestar_app(litestar.Router("/v1", route_handlers=[handles("POST", "/login")]))


@serves("POST /v1/users/login", "GET /v1/users/login")
def litestar_nested():
    class Users(litestar.Controller):
        path = "/users"

        @litestar.post("/login", status_code=200)
        async def login(self) -> None:
            return None

        @litestar.get("/login")
        async def page(self) -> None:
            return None

    return litestar_app(litestar.Router("/v1", route_handlers=[Users]))


@serves("POST /shop/login/", "opaque /raw/{path:path}", "* /exact")
def litestar_mount():
    # Litestar adds a slash to the path below a mount.
    inner = Starlette(routes=[Route("/login/", page, methods=["POST"])])
    shop = litestar.asgi("/shop", is_mount=True, copy_scope=True)(inner)

    @litestar.asgi("/raw", is_mount=True, copy_scope=True)
    async def raw(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse()(scope, receive, send)

    @litestar.asgi("/exact", copy_scope=True)
    async def exact(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse()(scope, receive, send)

    return litestar_app(shop, raw, exact)


@serves("POST /users/{id}", "GET /files/{name:path}")
def litestar_converter():
    numbered, file = handles("POST", "/users/{id:int}"), handles("GET", "/files/{name:path}")
    return litestar_app(numbered, file)


@serves("POST /late")
def litestar_late():
    app = litestar_app()
    yield app
    app.register(handles("POST", "/late"))


@serves("WEBSOCKET /ws")
def litestar_websocket():
    @litestar.websocket("/ws")
    async def handler(socket: litestar.WebSocket) -> None:
        await socket.accept()

    return litestar_app(handler)


# -- Flask and Quart ------


def empty(**_):
    return ""


async def quart_empty(**_):
    return ""


@serves("POST /login", "GET,POST /form")
def flask_plain():
    return rules_on(flask.Flask("app", static_folder=None), empty)


@serves("POST /login", "GET,POST /form")
def quart_plain():
    return rules_on(quart.Quart("app", static_folder=None), quart_empty)


def rules_on(app, view):
    app.add_url_rule("/login", "login", view, methods=["POST"])
    app.add_url_rule("/form", "form", view, methods=["GET", "POST"])
    return app


@serves("POST /v1/login")
def flask_prefix():
    return blueprints_on(flask.Flask("app", static_folder=None), flask.Blueprint, empty)


@serves("POST /v1/login")
def quart_prefix():
    return blueprints_on(quart.Quart("app", static_folder=None), quart.Blueprint, quart_empty)


@serves("POST /v1/users/login")
def flask_nested():
    app = flask.Flask("app", static_folder=None)
    return blueprints_on(app, flask.Blueprint, empty, nested="/users")


@serves("POST /v1/users/login")
def quart_nested():
    app = quart.Quart("app", static_folder=None)
    return blueprints_on(app, quart.Blueprint, quart_empty, nested="/users")


def blueprints_on(app, blueprint, view, nested=""):
    outer, inner = blueprint("outer", "outer"), blueprint("inner", "inner")
    inner.add_url_rule("/login", "login", view, methods=["POST"])
    outer.register_blueprint(inner, url_prefix=nested or None)
    app.register_blueprint(outer, url_prefix="/v1")
    return app


@serves("POST /shop/login", "POST /login", "GET,POST /form")
def flask_mount():
    app, shop = flask_plain(), flask.Flask("shop", static_folder=None)
    shop.add_url_rule("/login", "login", empty, methods=["POST"])
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/shop": shop})
    return app


@serves("POST /shop/login")
def quart_mount():
    return Starlette(routes=[Mount("/shop", quart_login())])


def quart_login():
    app = quart.Quart("shop", static_folder=None)
    app.add_url_rule("/login", "login", quart_empty, methods=["POST"])
    return app


CONVERTERS = [
    "GET /users/{id}",
    "GET /files/{name:path}",
    "GET /in/{place}.html",
    "GET /{lang}/page",
]


@serves(*CONVERTERS)
def flask_converter():
    return converters_on(flask.Flask("app", static_folder=None), empty)


@serves(*CONVERTERS)
def quart_converter():
    return converters_on(quart.Quart("app", static_folder=None), quart_empty)


def converters_on(app, view):
    addresses = (
        "/users/<int:id>",
        "/files/<path:name>",
        "/in/<any(home, work):place>.html",
        "/<string(length=2):lang>/page",
    )
    for address in addresses:
        app.add_url_rule(address, address, view)
    return app


@serves("POST /login", "GET,POST /form", "GET /late/")
def flask_late():
    app = flask_plain()
    yield app
    app.add_url_rule("/late/", "late", empty)


@serves("POST /login", "GET,POST /form", "GET /late/")
def quart_late():
    app = quart_plain()
    yield app
    app.add_url_rule("/late/", "late", quart_empty)


@serves("WEBSOCKET /ws")
def quart_websocket():
    app = quart.Quart("app", static_folder=None)
    app.add_websocket("/ws", "ws", quart_empty)
    return app


# -- Django ------


def view(_, *args, **names):
    return HttpResponse()


@serves("* /login/", "* /")
def django_plain():
    return [path("login/", view), path("", view)]


@serves("* /v1/login")
def django_prefix():
    return [path("v1/", include([path("login", view)]))]


@serves("* /v1/users/{user}/login", "* /v1/old/{year}/page")
def django_nested():
    users = [path("users/<slug:user>/", include([path("login", view)]))]
    old = [re_path(r"^old/(?P<year>[0-9]{4})/", include([re_path("^page$", view)]))]
    return [path("v1/", include(users + old))]


@serves("* /{any:path}api/login")
def django_mount():
    # Django has no mounts; the nearest is an include that is not anchored.
    return [re_path("api/", include([path("login", view)]))]


@serves(
    "* /users/{id}/{key}",
    "* /files/{name:path}",
    "* /kiosk/sign-in",
    "* /{any:path}sign_in{any:path}",
    "* /{any}/v{any}.json",
    "* /by-name/{name}",
    "* /a",
    "* /c",
)
def django_converter():
    return [
        path("users/<int:id>/<uuid:key>", view),
        path("files/<path:name>", view),
        re_path(r"(?i)^kiosk/sign\-in/?$", view),
        re_path("sign_in", view),
        re_path(r"^(en|de)/v[\d.]+\.json\Z", view),
        re_path(r"^by-name/(?P<name>\w+(?:-\w+)?)$", view),
        re_path("^a$|^c$", view),
    ]


@serves("* /login/", "* /", "* /late")
def django_late():
    patterns = django_plain()
    yield patterns
    patterns.append(path("late", view))


# -- Pyramid ------


def pyramid_app(*routes, prefix=""):
    def configure(config):
        for number, (pattern, method) in enumerate(routes):
            config.add_route(str(number), pattern)
            config.add_view(answer, route_name=str(number), request_method=method)

    with Configurator() as config:
        config.include(configure, route_prefix=prefix)
        return config.make_wsgi_app()


def answer(_):
    return PyramidResponse()


@serves("POST /login", "* /any", "GET /page")
def pyramid_plain():
    return pyramid_app(("/login", "POST"), ("any", None), ("/page", ("GET", "HEAD")))


@serves("POST /v1/login")
def pyramid_prefix():
    return pyramid_app(("/login", "POST"), prefix="/v1")


@serves("POST /v1/users/login")
def pyramid_nested():
    def inner(config):
        config.add_route("login", "/login")
        config.add_view(answer, route_name="login", request_method="POST")

    def outer(config):
        config.include(inner, route_prefix="/users")

    with Configurator() as config:
        config.include(outer, route_prefix="/v1")
        return config.make_wsgi_app()


@serves("opaque /shop/{subpath:path}")
def pyramid_mount():
    from pyramid.wsgi import wsgiapp2

    with Configurator() as config:
        config.add_route("shop", "/shop/*subpath")
        config.add_view(wsgiapp2(flask_plain()), route_name="shop")
        return config.make_wsgi_app()


@serves("* /users/{id}/{any}", "* /files/{rest:path}", "* /old/{name}")
def pyramid_converter():
    return pyramid_app(
        (r"/users/{id:\d{4}}/{any}", None), ("/files/*rest", None), ("/old/:name", None)
    )


@serves("POST /login", "* /late")
def pyramid_late():
    with Configurator() as config:
        config.add_route("login", "/login", request_method="POST")
        config.add_view(answer, route_name="login")
        yield config.make_wsgi_app()
        config.add_route("late", "/late")
        config.add_view(answer, route_name="late")
        config.commit()


# -- Falcon ------


class Resource:
    def on_post(self, req, resp, **_):
        pass


class Socket:
    async def on_websocket(self, req, websocket):
        await websocket.accept()


class AsyncResource(Socket):
    async def on_post(self, req, resp, **_):
        pass


@serves("POST /login")
def falcon_plain():
    app = falcon.App()
    app.add_route("/login", Resource())
    return app


@serves("POST /v1/login", "POST /v1/logout")
def falcon_prefix():
    app = falcon.App()
    app.add_route("/v1/login", Resource())
    app.add_route("/v1/logout", Resource())
    return app


@serves("POST /v1/users", "POST /v1/users/{id}/login")
def falcon_nested():
    app = falcon.App()
    app.add_route("/v1/users", Resource())
    app.add_route("/v1/users/{id}/login", Resource())
    return app


@serves("opaque /shop{any:path}", "opaque /v{number}{any:path}", "GET /files/{path:path}")
def falcon_mount():
    app = falcon.App()
    app.add_sink(lambda *_, **__: None, r"/v(?P<number>\d+)")
    app.add_sink(lambda *_, **__: None, "/shop")
    app.add_static_route("/files", "/")
    return app


@serves("POST /users/{id}-{name}", "POST /files/{rest:path}")
def falcon_converter():
    app = falcon.App()
    app.add_route("/users/{id:int(min=1)}-{name}", Resource())
    app.add_route("/files/{rest:path}", Resource())
    return app


@serves("POST /login", "POST /late")
def falcon_late():
    app = falcon_plain()
    yield app
    app.add_route("/late", Resource())


@serves("POST /ws", "WEBSOCKET /ws", "WEBSOCKET /only")
def falcon_websocket():
    app = falcon.asgi.App()
    app.add_route("/only", Socket())
    app.add_route("/ws", AsyncResource())
    return app


# -- Bottle ------


@serves("POST /login", "GET,POST /form", "* /any")
def bottle_plain():
    app = bottle.Bottle()
    app.route("/login", "POST", empty)
    app.route("/form", ["GET", "POST"], empty)
    app.route("/any", "ANY", empty)
    return app


@serves("POST /v1/login", "GET,POST /v1/form", "* /v1/any")
def bottle_prefix():
    app = bottle.Bottle()
    app.mount("/v1/", bottle_plain())
    return app


@serves("POST /api/v1/login", "GET,POST /api/v1/form", "* /api/v1/any")
def bottle_nested():
    app = bottle.Bottle()
    app.mount("/api/", bottle_prefix())
    return app


@serves("POST /shop/login", "GET,POST /shop/form", "opaque /raw/{path:path}")
def bottle_mount():
    app = bottle.Bottle()
    app.mount("/shop", flask_plain())
    app.mount("/raw/", lambda _, start: start("200 OK", []) and [])
    return app


@serves("GET /users/{id}", "GET /files/{name:path}", "GET /{lang}/page", "GET /x/{any}")
def bottle_converter():
    app = bottle.Bottle()
    language = "/<lang:re:[a-z]{2}>/page"
    for rule in ("/users/<id:int>", "/files/<name:path>", language, "/x/<:re:[0-9]+>"):
        app.route(rule, "GET", empty)
    return app


@serves("POST /login", "GET,POST /form", "* /any", "GET /late")
def bottle_late():
    app = bottle_plain()
    yield app
    app.route("/late", "GET", empty)


# -- the tests ------

SHAPES = ("plain", "prefix", "nested", "mount", "converter", "late", "websocket")
NO_WEBSOCKETS = {"bottle", "django", "flask", "pyramid"}


@pytest.mark.parametrize("name", CASES)
def test_check_calls_no_handler(name):
    app, context = application(name)
    called = []

    def note(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename == __file__ and code.co_name != "note":
            called.append(code.co_name)

    # Of some applications no route can be read.
    with context, suppress(ConfigurationError):
        sys.setprofile(note)
        try:
            check(app, Guard(["/**"], FakeVerifier()))
        finally:
            sys.setprofile(None)
    assert called == []


def application(name):
    """Return a case's application and the context in which it exists."""
    build, served = CASES[name]
    app = build()
    later = app if inspect.isgenerator(app) else None
    app = app if later is None else next(later)
    context = nullcontext()
    if isinstance(app, list):
        urls = ModuleType("urls")
        urls.urlpatterns = app
        context = override_settings(ROOT_URLCONF=urls, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
        with context:
            app = get_wsgi_application()
    if later is not None:
        with context:
            assert len(list(read(app))) < len(served)
            next(later, None)
    return app, context


def test_every_framework_has_every_shape():
    frameworks = {name.partition("_")[0] for name in CASES}
    assert len(frameworks) == 9
    wanted = {(framework, shape) for framework in frameworks for shape in SHAPES}
    wanted -= {(framework, "websocket") for framework in NO_WEBSOCKETS}
    assert {tuple(name.split("_")) for name in CASES} == wanted
    late = {name for name, (build, _) in CASES.items() if inspect.isgeneratorfunction(build)}
    assert late == {f"{framework}_late" for framework in frameworks}


@pytest.mark.parametrize("name", CASES)
def test_the_reader_returns_what_is_served(name):
    app, context = application(name)
    with context:
        # Litestar keeps the handlers of a route in no order.
        assert sorted(map(row, read(app))) == sorted(CASES[name][1])


ENDPOINTS = {
    "bottle_plain": empty,
    "django_plain": view,
    "falcon_plain": Resource,
    "fastapi_nested": nothing,
    "flask_plain": empty,
    "litestar_plain": handles("GET", "/").fn,
    "pyramid_plain": answer,
    "quart_plain": quart_empty,
    "starlette_plain": page,
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_route_has_the_endpoint_that_the_framework_calls(name):
    app, context = application(name)
    with context:
        endpoint = next(iter(read(app))).endpoint
    endpoint = endpoint if inspect.isfunction(endpoint) else type(endpoint)
    assert (endpoint.__module__, endpoint.__name__) == (__name__, ENDPOINTS[name].__name__)


def test_a_resource_that_the_example_does_not_reach_is_named():
    app = falcon.App()
    app.add_route("/at/{time:dt}", Resource())
    assert [route.endpoint for route in read(app)] == ["Resource"]


@pytest.mark.parametrize("name", CASES)
def test_the_application_serves_every_example(name):
    app, context = application(name)
    with context:
        for route in read(app):
            assert route.path.examples
            assert all(map(route.path.accepts, route.path.examples))
            # The files of the static route are those of this machine.
            if not (route.websocket or route.opaque or name == "falcon_mount"):
                targets = [
                    (method, example)
                    for method in set(answered_methods(route)) - {"CONNECT"}
                    for example in route.path.examples
                ]
                assert {target: status(app, *target) for target in targets} == dict.fromkeys(
                    targets, 200
                )


def status(app, method, target):
    url = f"http://localhost{target}"
    call = app if inspect.isroutine(app) else type(app).__call__
    if not inspect.iscoroutinefunction(call):
        with httpx.Client(transport=httpx.WSGITransport(app)) as client:
            return client.request(method, url).status_code

    async def request():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return (await client.request(method, url)).status_code

    return asyncio.run(request())
