"""Marks on handlers, and the rules that follow from them."""

from __future__ import annotations

import functools

import pytest
from fastapi import FastAPI, WebSocket  # noqa: TC002  FastAPI reads the annotation
from flask import Flask
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.routing import Route
from werkzeug.routing import BaseConverter

from tcaptcha_middleware import ConfigurationError, Rule
from tcaptcha_middleware.integrations.marks import Mark, attach, marked_rules


class RegexConverter(BaseConverter):
    part_isolating = False

    def __init__(self, url_map, regex):
        super().__init__(url_map)
        self.regex = regex


def marked(methods=(), **settings):
    def endpoint():
        return None

    attach(Mark(settings, methods), endpoint)
    return endpoint


def unmarked():
    return None


def fastapi_texts(*routes):
    app = FastAPI(openapi_url=None)
    for methods, path, endpoint in routes:
        app.add_api_route(path, endpoint, methods=methods.split(","))
    return [rule.text for rule in marked_rules(app)]


def flask_texts(*routes):
    app = Flask("app", static_folder=None)
    app.url_map.converters["regex"] = RegexConverter
    for number, (methods, path, endpoint) in enumerate(routes):
        app.add_url_rule(path, str(number), endpoint, methods=methods.split(","))
    return [rule.text for rule in marked_rules(app)]


# -- marks ------


@pytest.mark.parametrize("verifier", [1, "TencentVerifier", object()])
def test_a_verifier_without_a_method_is_an_error_at_the_handler(verifier):
    with pytest.raises(ConfigurationError, match="verifier"):
        marked(verifier=verifier)


@pytest.mark.parametrize("methods", [[1], [None], ["GET", b"POST"]])
def test_a_method_that_is_not_text_is_an_error_at_the_handler(methods):
    with pytest.raises(ConfigurationError, match=r'methods has .*, .* not a method: write \["'):
        marked(methods)


def test_only_an_integration_that_refuses_other_handlers_has_marks_that_defer():
    with pytest.raises(ConfigurationError, match='mode="defer" is for views of Django only'):
        marked(mode="defer")


# -- rules ------


def test_only_marked_handlers_have_rules():
    rows = ("POST", "/login", marked()), ("POST", "/search", unmarked)
    assert fastapi_texts(*rows) == flask_texts(*rows) == ["POST /login"]


def test_a_rule_has_the_settings_of_its_mark():
    app = FastAPI()
    app.post("/login")(marked(mode="observe", percent=7))
    assert marked_rules(app) == [Rule("POST /login", mode="observe", percent=7)]


@pytest.mark.parametrize(
    ("path", "text"),
    {
        "/users/{id}": "/users/{id}",
        "/users/{id:int}/{x:uuid}": "/users/{id}/{x}",
        "/prices/{price:float}": "/prices/{price}",
        "/v{version}/login": "/{any}/login",
        "/files/{name}.{extension}": "/files/{any}",
        "/files/{path:path}": "/files/**",
        "/files/{path:path}/comments": "/files/**",
        "/files/x-{path:path}": "/files/**",
        "/{path:path}": "/**",
        "/": "/",
    }.items(),
)
def test_a_starlette_path_becomes_the_path_of_a_rule(path, text):
    assert fastapi_texts(("POST", path, marked())) == [f"POST {text}"]


@pytest.mark.parametrize(
    ("path", "text"),
    {
        "/users/<id>": "/users/{id}",
        "/users/<int:id>/<uuid:x>": "/users/{id}/{x}",
        "/prices/<float:price>": "/prices/{price}",
        "/<any(de, fr):language>/login": "/{language}/login",
        "/<any('a/b', c):place>/login": "/**",
        "/codes/<string(length=4):code>": "/codes/{code}",
        "/files/<path:name>": "/files/**",
        "/login/": "/login/",
        "/codes/<regex('[!-~]{2}'):code>": "/codes/**",
        "/codes/<regex('[+-9]{2}'):code>": "/codes/**",
        "/codes/<regex('[0-9a-f-]{2}'):code>": "/codes/{code}",
        "/codes/<regex('[^/x]{2}'):code>": "/codes/{code}",
        "/codes/<regex('[^x]{2}'):code>": "/codes/**",
        "/codes/<regex('[^]/]x'):code>": "/codes/{code}",
        r"/codes/<regex('\[a].'):code>": "/codes/**",
        r"/codes/<regex('[\s\S]{2}'):code>": "/codes/**",
        r"/codes/<regex('\W\d'):code>": "/codes/**",
        r"/codes/<regex('v\d\.\d'):code>": "/codes/{code}",
    }.items(),
)
def test_a_werkzeug_path_becomes_the_path_of_a_rule(path, text):
    assert flask_texts(("POST", path, marked())) == [f"POST {text}"]


def test_the_methods_of_a_mark_choose_among_those_of_the_route():
    assert fastapi_texts(("GET,POST,PUT", "/form", marked())) == ["GET,POST,PUT /form"]
    assert fastapi_texts(("GET,POST,PUT", "/form", marked(["UNSAFE"]))) == ["POST,PUT /form"]
    assert fastapi_texts(("GET,POST,PUT", "/form", marked(["GET"]))) == ["GET /form"]
    assert fastapi_texts(("GET", "/form", marked(["POST"]))) == []


class Endpoint(HTTPEndpoint):
    pass


def any_method(endpoint):
    route = Route("/any", Endpoint)
    route.endpoint, route.methods = endpoint, None
    return [rule.text for rule in marked_rules(Starlette(routes=[route]))]


def test_a_route_for_every_method_becomes_a_rule_for_every_method():
    assert any_method(marked()) == ["/any"]
    assert any_method(marked(["UNSAFE"])) == ["UNSAFE /any"]
    assert any_method(marked(["PUT", "POST"])) == ["POST,PUT /any"]


def test_a_websocket_is_a_get():
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    attach(Mark({}), endpoint)
    app = FastAPI(openapi_url=None)
    app.websocket("/socket")(endpoint)
    assert [rule.text for rule in marked_rules(app)] == ["GET /socket"]


def test_specific_rules_come_first_whatever_the_order_of_the_routes():
    paths = ["/{path:path}", "/users/{path:path}", "/users/{id}", "/users/me"]
    texts = ["POST /users/me", "POST /users/{id}", "POST /users/**", "POST /**"]
    assert fastapi_texts(*(("POST", path, marked()) for path in paths)) == texts
    assert fastapi_texts(*(("POST", path, marked()) for path in paths[::-1])) == texts


def test_handlers_of_mounted_applications_and_partial_functions_are_found():
    mounted = FastAPI(openapi_url=None)
    mounted.post("/login")(functools.partial(marked()))
    app = FastAPI(openapi_url=None)
    app.mount("/mount", mounted)
    assert [rule.text for rule in marked_rules(app)] == ["POST /mount/login"]


def test_a_decorator_outside_keeps_the_mark():
    def decorator(endpoint):
        @functools.wraps(endpoint)
        def wrapper():
            return endpoint()

        return wrapper

    assert fastapi_texts(("POST", "/login", decorator(marked()))) == ["POST /login"]


def test_two_routes_of_one_path_have_one_rule():
    rows = [("POST", "/login", marked(percent=7)), ("POST", "/login/", marked(percent=7))]
    assert fastapi_texts(*rows) == ["POST /login"]


# -- errors ------


def test_two_marks_of_one_path_that_differ_are_an_error():
    rows = [("POST", "/login", marked(percent=7)), ("POST", "/login/", marked())]
    with pytest.raises(ConfigurationError, match="two handlers of 'POST /login/' have marks"):
        fastapi_texts(*rows)


def test_a_route_that_no_rule_can_express_is_an_error():
    with pytest.raises(ConfigurationError, match=r"endpoint.* is marked: rule 'POST /a;b' can"):
        fastapi_texts(("POST", "/a;b", marked()))


@pytest.mark.parametrize(
    ("error", "mistake"),
    [
        (TypeError, {"mod": "observe"}),
        (ConfigurationError, {"mode": "watch"}),
        (ConfigurationError, {"methods": ["FETCH"]}),
        (ConfigurationError, {"methods": "POST"}),
    ],
)
def test_a_mistake_is_an_error_where_the_mark_is_written(error, mistake):
    with pytest.raises(error):
        marked(**mistake)


def test_a_handler_is_marked_once():
    with pytest.raises(ConfigurationError, match=r"endpoint.* is marked twice"):
        attach(Mark(), marked())


def test_what_cannot_keep_a_mark_is_an_error():
    class Handlers:
        def login(self):
            pass

    with pytest.raises(ConfigurationError, match=r"login.* cannot keep a mark"):
        attach(Mark(), Handlers().login)
