"""Rules that match no route are reported once, when the application has all its routes."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import asynccontextmanager

import pytest
from adapters import Exchange, call_asgi, call_wsgi, environ_of, messages_of, scope_of
from bottle import Bottle
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from django_inside import GUARD  # noqa: F401  configures Django
from falcon import App as FalconApp
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar
from litestar import get as litestar_get
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TCaptchaWSGIMiddleware
from tcaptcha_middleware.integrations import flask as flask_integration
from tcaptcha_middleware.integrations import starlette as starlette_integration
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
from tcaptcha_middleware.operations import startup
from tcaptcha_middleware.testing import FakeVerifier

RULES = ["POST /login", "POST /signin"]
WARNING = "the rule 'POST /signin' protects nothing: did you mean \"POST /login\"?"


def guard(rules=RULES):
    return Guard(rules, FakeVerifier())


@pytest.fixture
def warnings(caplog):
    """Return a function for the warnings so far, when all threads have ended."""

    def written():
        for thread in threading.enumerate():
            if thread.name == "tcaptcha-routes":
                thread.join(10)
        records = [r for r in caplog.records if r.name == "tcaptcha_middleware"]
        return [r.getMessage() for r in records if r.levelno >= logging.WARNING]

    return written


def start(app):
    """Send the lifespan events of a server."""

    async def main():
        sent, events = [], iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive():
            return {"type": next(events)}

        async def send(message):
            sent.append(message["type"])

        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
        return sent

    sent = asyncio.run(main())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def ask(app, **environ):
    """Send the first request."""
    return call_wsgi(app, environ_of(Exchange("GET", "/other")) | environ)


# -- ASGI: when the server starts the application ------


def endpoint(*_):
    raise AssertionError


def starlette_app():
    app = Starlette(routes=[Route("/login", endpoint, methods=["POST"])])
    app.add_middleware(TCaptchaMiddleware, guard=guard())
    return app


def fastapi_app():
    app = FastAPI()
    app.post("/login")(lambda: None)
    return TCaptchaMiddleware(app, guard())


def late_app():
    @asynccontextmanager
    async def lifespan(app):
        app.add_route("/login", endpoint, methods=["POST"])
        yield

    return TCaptchaMiddleware(Starlette(lifespan=lifespan), guard())


def quart_app():
    app = Quart("app")
    app.post("/login")(endpoint)
    app.asgi_app = TCaptchaMiddleware(app.asgi_app, guard())
    return app


def marked_starlette():
    login = starlette_integration.required(endpoint)
    app = Starlette(routes=[Route("/login", login, methods=["POST"])])
    starlette_integration.protect(app, FakeVerifier(), ["POST /signin"])
    return app


def litestar_plugin():
    @litestar_get("/other")
    async def handler() -> None: ...

    return Litestar(
        [handler], plugins=[TCaptchaPlugin(guard(["GET /othr"]))], logging_config=None
    )


@pytest.mark.parametrize(
    "make", [starlette_app, fastapi_app, late_app, quart_app, marked_starlette]
)
def test_starting_an_asgi_application_reports_a_rule_without_a_route(make, warnings):
    app = make()
    assert warnings() == []
    start(app)
    assert warnings() == [WARNING]


def test_the_plugin_of_litestar_reports_it(warnings):
    start(litestar_plugin())
    (text,) = warnings()
    assert text.endswith('did you mean "GET /other"?')


def test_a_start_that_fails_reports_nothing(warnings):
    async def failing(scope, receive, send):
        await send({"type": "lifespan.startup.failed"})

    async def send(message): ...

    asyncio.run(TCaptchaMiddleware(failing, guard())({"type": "lifespan"}, None, send))
    assert warnings() == []


def test_a_rule_that_comes_too_late_is_reported_as_such(warnings):
    app = Starlette(routes=[Route("/login", endpoint, methods=["POST"])])
    start(TCaptchaMiddleware(app, guard(["POST /{any}", "POST /login"])))
    (text,) = warnings()
    assert text.endswith("an earlier rule judges all that it matches")


def test_each_guard_reports_its_own_rules(warnings):
    app = Starlette(routes=[Route("/login", endpoint, methods=["POST"])])
    start(TCaptchaMiddleware(TCaptchaMiddleware(app, guard(RULES[:1])), guard(["POST /lgin"])))
    (text,) = warnings()
    assert text.startswith("the rule 'POST /lgin'")


# -- ASGI without a lifespan: with the first request ------


def ask_asgi(app, **scope):
    """Send a request, without the lifespan events."""
    exchange = Exchange("GET", "/other")
    return call_asgi(app, scope_of(exchange, **scope), messages_of(exchange))


def test_the_first_request_to_django_under_asgi_reports_a_rule_without_a_route(warnings):
    with override_settings(ROOT_URLCONF=(path("login", lambda _: HttpResponse()),)):
        app = TCaptchaMiddleware(ASGIHandler(), guard())
        with pytest.raises(ValueError, match="lifespan"):
            start(app)
        assert warnings() == []
        ask_asgi(app)
        ask_asgi(app)
        assert warnings() == [WARNING]


def test_the_first_request_to_a_mounted_application_reports_the_rules_below_it(warnings):
    inner = Starlette(routes=[Route("/login", endpoint, methods=["POST"])])
    # The last one may be for another mount.
    rules = ["POST /shop/login", "POST /shop/signin", "POST /signin"]
    app = Starlette(routes=[Mount("/shop", TCaptchaMiddleware(inner, guard(rules)))])
    start(app)
    assert warnings() == []
    ask_asgi(app, path="/shop/other")
    (text,) = warnings()
    assert text.startswith("the rule 'POST /shop/signin'")


def marked_litestar():
    @litestar_get("/other")
    async def handler() -> None: ...

    plugin = TCaptchaPlugin(verifier=FakeVerifier(), rules=["GET /othr"])
    return Litestar([handler], plugins=[plugin], logging_config=None)


@pytest.mark.parametrize(
    "make", [fastapi_app, marked_starlette, litestar_plugin, marked_litestar]
)
def test_a_request_after_the_start_reports_nothing_again(make, warnings):
    app = make()
    start(app)
    assert len(warnings()) == 1
    ask_asgi(app)
    assert len(warnings()) == 1


@pytest.mark.parametrize("make", [litestar_plugin, marked_litestar])
def test_the_plugin_of_litestar_reports_a_rule_without_a_start_too(make, warnings):
    ask_asgi(make())
    assert len(warnings()) == 1


def test_a_router_whose_default_serves_everything_has_no_dead_rule(warnings):
    ask_asgi(TCaptchaMiddleware(Router(default=PlainTextResponse("served")), guard()))
    assert warnings() == []


def test_a_marked_application_whose_server_sends_no_lifespan_reports_a_rule_once(warnings):
    app = marked_starlette()
    ask_asgi(app)
    assert warnings() == [WARNING]
    late = starlette_integration.required(endpoint)
    app.add_route("/late", late, methods=["POST"])
    ask_asgi(app)
    assert warnings() == [WARNING]


# -- WSGI: with the first request ------


def flask_app():
    app = Flask("app")
    app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, guard())
    app.post("/login")(endpoint)
    return app


def bottle_app():
    app = Bottle()
    app.post("/login")(endpoint)
    return TCaptchaWSGIMiddleware(app, guard())


def marked_flask():
    app = Flask("app")
    captcha = flask_integration.TCaptcha(app, FakeVerifier(), ["POST /signin"])
    app.post("/login")(captcha.required(endpoint))
    return app


@pytest.mark.parametrize("make", [flask_app, bottle_app, marked_flask])
def test_the_first_request_reports_a_rule_without_a_route(make, warnings):
    app = make()
    assert warnings() == []
    ask(app)
    ask(app)
    assert warnings() == [WARNING]


def test_a_rule_is_reported_once_if_a_route_is_added_later(warnings):
    app = marked_flask()
    ask(app)
    app._got_first_request = False
    app.post("/late", endpoint="late")(flask_integration.TCaptcha().required(lambda: ""))
    ask(app)
    assert warnings() == [WARNING]


def test_a_rule_with_the_mount_that_the_server_reports_has_a_route(warnings):
    app = Bottle()
    app.post("/login")(endpoint)
    ask(TCaptchaWSGIMiddleware(app, guard(["POST /shop/login"])), SCRIPT_NAME="/shop")
    assert warnings() == []


def test_a_dead_rule_below_the_mount_is_reported_whatever_its_case(warnings):
    app = Bottle()
    app.post("/login")(endpoint)
    ask(TCaptchaWSGIMiddleware(app, guard(["POST /shop/signin"])), SCRIPT_NAME="/Shop")
    assert len(warnings()) == 1


def test_a_rule_for_another_mount_of_the_application_is_not_reported(warnings):
    app = Bottle()
    app.post("/login")(endpoint)
    rules = ["POST /a/login", "POST /b/login", "POST /ab/login", "POST /a/signin"]
    ask(TCaptchaWSGIMiddleware(app, guard(rules)), SCRIPT_NAME="/a")
    (text,) = warnings()
    assert text.startswith("the rule 'POST /a/signin'")


def test_a_rule_without_a_route_is_reported_whatever_the_mount_if_the_guard_knows_it(warnings):
    app = Bottle()
    app.post("/login")(endpoint)
    known = Guard(RULES, FakeVerifier(), mounted_at="/shop")
    ask(TCaptchaWSGIMiddleware(app, known), SCRIPT_NAME="/other")
    assert len(warnings()) == 1


def test_a_rule_for_a_method_that_no_route_answers_is_reported(warnings):
    app = Bottle()
    app.post("/login")(endpoint)
    ask(TCaptchaWSGIMiddleware(app, guard(["POST /login", "CONNECT /login"])))
    (text,) = warnings()
    assert text.startswith("the rule 'CONNECT /login'")


def test_the_urls_of_django_are_read(warnings):
    with override_settings(ROOT_URLCONF=(path("login", lambda _: HttpResponse()),)):
        ask(TCaptchaWSGIMiddleware(WSGIHandler(), guard(["POST /login", "POST /lgin"])))
        assert len(warnings()) == 1


@pytest.mark.parametrize(
    "app", [Bottle(), Flask("app", static_folder=None)], ids=lambda app: type(app).__name__
)
def test_each_rule_of_an_application_without_routes_is_reported(app, warnings):
    ask(TCaptchaWSGIMiddleware(app, guard()))
    assert warnings() == [
        f"the rule {rule!r} protects nothing: the application has no routes" for rule in RULES
    ]


# -- without a warning ------


def plain(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return []


def sink_only():
    app = FalconApp()
    app.add_sink(lambda *_, **__: None, "/")
    return app


@pytest.mark.parametrize(
    "app",
    [plain, sink_only()],
    ids=["not a framework", "opaque"],
)
def test_an_application_whose_routes_cannot_be_read_is_not_reported(app, warnings):
    ask(TCaptchaWSGIMiddleware(app, guard()))
    assert warnings() == []


def test_a_rule_for_what_an_opaque_application_may_serve_is_not_reported(warnings):
    routes = [Route("/login", endpoint, methods=["POST"]), Mount("/inner", app=endpoint)]
    start(TCaptchaMiddleware(Starlette(routes=routes), guard(["POST /inner/signin"])))
    assert warnings() == []


def test_a_marked_application_without_a_mark_has_one_warning(warnings):
    app = Flask("app")
    flask_integration.TCaptcha(app, FakeVerifier())
    ask(app)
    (text,) = warnings()
    assert text == ("no handler is marked, and there are no rules: nothing needs a captcha")


def test_a_reader_that_fails_is_logged_for_developers_only(warnings, caplog):
    app = Bottle()
    app.routes.append(None)
    caplog.set_level(logging.DEBUG, "tcaptcha_middleware")
    ask(TCaptchaWSGIMiddleware(app, guard()))
    assert warnings() == []
    assert "cannot be read" in caplog.text


def test_a_process_that_cannot_start_a_thread_serves_requests(warnings, monkeypatch):
    def start(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert ask(bottle_app())[0] == 404
    assert warnings() == []


def test_the_first_request_does_not_wait(warnings, monkeypatch):
    ended, waited = threading.Event(), []
    monkeypatch.setattr(startup, "_report", lambda *_: waited.append(ended.wait(10)))
    assert ask(bottle_app())[0] == 404
    assert waited == []
    ended.set()
    assert warnings() == []
    assert waited == [True]
