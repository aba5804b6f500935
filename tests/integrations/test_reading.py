"""Details of the readers, and how guards and applications are found behind middlewares."""

from __future__ import annotations

import subprocess
import sys

import pytest
import router_django  # noqa: F401  configures Django
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST
from fastapi import FastAPI
from flask import Flask
from hypercorn.middleware import DispatcherMiddleware as HypercornDispatcher
from litestar import Litestar
from litestar.middleware import DefineMiddleware
from pyramid.config import Configurator, not_
from pyramid.response import Response
from quart import Quart
from rest_framework.decorators import api_view
from rest_framework.viewsets import ViewSet
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Rule

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
)
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.integrations.routes.regex import split
from tcaptcha_middleware.integrations.routes.route import Parameter
from tcaptcha_middleware.testing import FakeVerifier

GUARD = Guard(["POST /login"], FakeVerifier())


def page(_):
    return PlainTextResponse()


def methods(app):
    return {
        str(route.path): None if route.methods is None else set(route.methods)
        for route in read(app)
    }


# -- guards and middlewares ------


def flask_behind(*layers):
    app = Flask("app", static_folder=None)
    app.add_url_rule("/login", "login", page, methods=["POST"])
    for layer in layers:
        app.wsgi_app = layer(app.wsgi_app)
    return app


def gate(app):
    return TCaptchaWSGIMiddleware(app, GUARD)


def quart_app():
    app = Quart("app", static_folder=None)
    app.add_url_rule("/login", "login", page, methods=["POST"])
    app.asgi_app = TCaptchaMiddleware(app.asgi_app, GUARD)
    return app


def fastapi_app(*args, **options):
    app = FastAPI(openapi_url=None)
    app.add_middleware(StaticFiles, directory="/")
    app.add_middleware(TCaptchaMiddleware, *args, **options)
    app.post("/login")(page)
    return app


ROUTES = [Route("/login", page, methods=["POST"])]
GATED = {
    "wrapped": lambda: TCaptchaMiddleware(Starlette(routes=ROUTES), GUARD),
    "wrapped router": lambda: TCaptchaMiddleware(Router(ROUTES), GUARD),
    "add_middleware": lambda: fastapi_app(guard=GUARD),
    "add_middleware, by position": lambda: fastapi_app(GUARD),
    "middleware=": lambda: Starlette(
        routes=ROUTES, middleware=[Middleware(TCaptchaMiddleware, guard=GUARD)]
    ),
    "flask": lambda: flask_behind(gate),
    "flask, wrapped": lambda: gate(flask_behind()),
    "flask, between others": lambda: flask_behind(ProxyFix, gate, ProxyFix),
    "quart": quart_app,
}


@pytest.mark.parametrize("name", GATED)
def test_the_guard_is_found_in_front_of_the_routes(name):
    (route,) = read(GATED[name]())
    assert [(str(route.path), *gate) for gate in route.gates] == [("/login", GUARD, "")]


def unchanged(app):
    return app


def test_litestars_middlewares_are_found():
    middleware = [DefineMiddleware(TCaptchaMiddleware, guard=GUARD), unchanged]
    (route, *_) = read(Litestar(middleware=middleware))
    assert [gate.guard for gate in route.gates] == [GUARD]


def test_a_guard_inside_a_mount_is_in_front_of_that_mount_only():
    shop = TCaptchaMiddleware(Starlette(routes=ROUTES), GUARD)
    app = Starlette(routes=[*ROUTES, Mount("/shop", shop)])
    gates = {str(route.path): route.gates for route in read(app)}
    assert gates == {"/login": (), "/shop/login": ((GUARD, "/shop"),)}


def test_a_dispatchers_mounts_are_behind_the_guards_around_it_only():
    def dispatcher(app):
        return DispatcherMiddleware(app, {"/shop": flask_behind()})

    inside = {
        str(route.path): len(route.gates) for route in read(flask_behind(gate, dispatcher))
    }
    around = {
        str(route.path): len(route.gates) for route in read(flask_behind(dispatcher, gate))
    }
    assert inside == {"/shop/login": 0, "/login": 1}
    assert around == {"/shop/login": 1, "/login": 1}


def test_a_dispatcher_may_have_mounts_only():
    app = HypercornDispatcher({"/shop": quart_app()})
    assert [str(route.path) for route in read(app)] == ["/shop/login"]


def test_what_is_not_an_application_is_opaque():
    (route,) = read(page)
    assert "function is not an application" in route.opaque


def test_a_reader_that_fails_is_reported():
    app = Flask("app")
    app.url_map = None
    with pytest.raises(ConfigurationError, match="this Flask cannot be read: AttributeError"):
        list(read(app))


@pytest.mark.parametrize("framework", ["flask", "bottle", "falcon"])
def test_only_the_applications_own_framework_is_imported(framework):
    kind = {"flask": "Flask('app')", "bottle": "Bottle()", "falcon": "App()"}[framework]
    script = (
        "import sys\n"
        "from tcaptcha_middleware.integrations.routes.reading import read\n"
        f"import {framework}\n"
        f"list(read({framework}.{kind}))\n"
        "print(*sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    others = {"bottle", "django", "falcon", "fastapi", "flask", "litestar", "pyramid"}
    others |= {"quart", "starlette"}
    assert others & set(output.stdout.decode().split()) == {framework}


# -- Starlette ------


class Endpoint(HTTPEndpoint):
    def post(self, request): ...


def test_an_endpoint_class_answers_the_methods_that_it_defines():
    assert methods(Starlette(routes=[Route("/a", Endpoint)])) == {"/a": {"POST"}}


def test_another_class_answers_every_method():
    assert methods(Starlette(routes=[Route("/a", PlainTextResponse)])) == {"/a": None}


def test_static_files_are_a_route():
    app = Starlette(routes=[Mount("/static", StaticFiles(directory="/"))])
    assert methods(app) == {"/static/{path:path}": {"GET"}}


def test_a_hosts_routes_have_their_own_paths():
    assert methods(Starlette(routes=[Host("api.example.com", Router(ROUTES))])) == {
        "/login": {"POST"}
    }


def test_a_route_of_another_kind_is_opaque():
    (route,) = read(Starlette(routes=[BaseRoute()]))
    assert (str(route.path), route.opaque) == (
        "/{path:path}",
        "BaseRoute is not a route of Starlette",
    )


# -- Werkzeug ------


def test_rules_for_building_only_are_left_out():
    app = Flask("app", static_folder=None)
    app.url_map.add(Rule("/elsewhere", endpoint="x", build_only=True))
    assert list(read(app)) == []


def test_a_rule_without_methods_answers_every_one():
    app = Flask("app", static_folder=None)
    app.url_map.add(Rule("/any", endpoint="any"))
    assert methods(app) == {"/any": None}


def test_an_own_answer_to_options_counts():
    app = Flask("app", static_folder=None)
    app.add_url_rule("/a", "a", page, methods=["POST", "OPTIONS"])
    assert methods(app) == {"/a": {"POST", "OPTIONS"}}


# -- Django ------


class Users(ViewSet):
    def list(self, request): ...

    def create(self, request): ...


class Form(View):
    def get(self, request): ...

    def post(self, request): ...


class OwnOptions(Form):
    def options(self, request): ...


@api_view(["POST"])
def rest_view(request): ...


def function(request): ...


VIEWS = {
    "function": (function, None),
    "exempt": (csrf_exempt(function), None),
    "POST": (require_POST(function), {"POST"}),
    "listed": (csrf_exempt(require_http_methods(["POST", "PUT"])(function)), {"POST", "PUT"}),
    "twice": (require_POST(require_http_methods(["POST", "PUT"])(function)), {"POST"}),
    "class": (Form.as_view(), {"GET", "POST"}),
    "exempt class": (csrf_exempt(Form.as_view()), {"GET", "POST"}),
    "restricted class": (require_POST(Form.as_view()), {"POST"}),
    "own options": (OwnOptions.as_view(), {"GET", "POST", "OPTIONS"}),
    "viewset that allows fewer methods": (
        type("Fewer", (Users,), {"http_method_names": ["get", "post"]}).as_view(
            {"get": "list", "post": "create", "put": "update"}
        ),
        {"GET", "POST"},
    ),
    "viewset": (Users.as_view({"get": "list", "post": "create"}), {"GET", "POST"}),
    "api_view": (rest_view, {"POST"}),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_answers_what_its_class_or_its_decorators_allow(name):
    view, answered = VIEWS[name]
    assert django_methods([path("a", view)]) == {"/a": answered}


def django_methods(patterns):
    class Urls:
        urlpatterns = patterns

    with override_settings(ROOT_URLCONF=Urls):
        return methods(get_asgi_application())


@pytest.mark.parametrize(
    ("options", "paths"),
    [({}, {"/{language}/a"}), ({"prefix_default_language": False}, {"/{language}/a", "/a"})],
)
def test_a_languages_prefix_is_a_segment(options, paths):
    from django.conf.urls.i18n import i18n_patterns

    patterns = i18n_patterns(path("a", lambda _: HttpResponse()), **options)
    assert django_methods(patterns).keys() == paths


# -- Pyramid ------


def pyramid(configure, **options):
    with Configurator(**options) as config:
        configure(config)
        return config.make_wsgi_app()


def answer(_):
    return Response()


def test_views_without_a_route_are_one_opaque_route():
    def configure(config):
        config.add_view(answer, name="sign_in")
        config.add_view(answer, name="login")
        config.add_notfound_view(answer)

    (route,) = read(pyramid(configure))
    assert str(route.path) == "/{traverse:path}"
    assert "traversal" in route.opaque


def test_a_route_that_ends_in_a_traversal_is_opaque():
    def configure(config):
        config.add_route("a", "/a/*traverse")
        config.add_view(answer, route_name="a")

    assert [bool(route.opaque) for route in read(pyramid(configure))] == [True]


@pytest.mark.parametrize("introspection", [True, False])
def test_a_route_whose_views_are_unknown_is_opaque(introspection):
    def configure(config):
        config.add_route("a", "/a")
        if not introspection:
            config.add_view(answer, route_name="a")

    (route,) = read(pyramid(configure, introspection=introspection))
    assert route.opaque == "no view is registered for this route"


@pytest.mark.parametrize(
    ("of_route", "of_view", "answered"),
    [
        (None, None, None),
        ("POST", None, {"POST"}),
        (("GET", "POST"), "POST", {"POST"}),
        (None, not_("GET"), None),
        ("POST", not_("GET"), {"POST"}),
    ],
)
def test_the_predicates_of_route_and_view_both_count(of_route, of_view, answered):
    def configure(config):
        config.add_route("a", "/a", request_method=of_route)
        config.add_view(answer, route_name="a", request_method=of_view)

    assert methods(pyramid(configure)) == {"/a": answered}


# -- regular expressions ------


@pytest.mark.parametrize(
    ("regex", "templates"),
    [
        ("^login$", ["login"]),
        (r"\Alogin\Z", ["login"]),
        ("login", ["{any:path}login{any:path}"]),
        ("", ["{any:path}{any:path}"]),
        (r"^a\.b\-c/$", ["a.b-c/"]),
        (r"^(?P<year>\d{4})/(?P<rest>.*)$", ["{year}/{rest:path}"]),
        (r"^(?P<x>(?:a(b)|[)(])+)?/$", ["{x}/"]),
        ("^(?i)a$", ["a"]),
        ("^a$|^b$", ["a", "b"]),
        (r"^v\d+[^/]x{2,3}.$", ["v{any}{any}{any}{any}"]),
        ("^a/?$", ["a"]),
        ("^(?!admin)[a-z]+$", ["{any}"]),
    ],
)
def test_an_expression_is_split_into_text_and_parameters(regex, templates):
    assert list(map(str, split(regex))) == templates


@pytest.mark.parametrize(
    ("regex", "values"),
    [
        ("[^/]+", ["value", "7"]),
        (r"\d+", ["7"]),
        (".*", ["value", "7", "value/value", "value/value/value", ""]),
        ("(?:en|de)", ["en", "de"]),
        ("[a-z]{2}", ["aa"]),
        (r"\d{6}", ["777777"]),
        ("[0-9a-f-]{36}", ["01234567-89ab-4def-8123-456789abcdef"]),
        ("x{70}", []),
    ],
)
def test_the_values_of_a_parameter_are_of_every_kind_that_it_accepts(regex, values):
    assert Parameter("x", regex).values == values
