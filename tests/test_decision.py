"""`get_decision()` and `require_captcha()` accept the request of every framework."""

from __future__ import annotations

import asyncio

import blacksheep
import falcon
import falcon.testing
import litestar  # noqa: TC002  Litestar reads annotations
import pytest
import router_django  # noqa: F401  configures Django
from adapters import Exchange, call_asgi, call_wsgi, environ_of, messages_of, scope_of
from bottle import Bottle
from bottle import request as bottle_request
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest  # noqa: TC002  FastAPI reads annotations
from flask import Flask
from flask import request as flask_request
from litestar import Litestar
from litestar import get as litestar_get
from pyramid.config import Configurator
from pyramid.response import Response as PyramidResponse
from quart import Quart
from quart import request as quart_request
from rest_framework.response import Response as RestResponse
from rest_framework.views import APIView
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tcaptcha_middleware import (
    Allow,
    CaptchaRequired,
    Guard,
    Rule,
    TCaptchaError,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    Unchecked,
    Verdict,
    get_decision,
    require_captcha,
)
from tcaptcha_middleware import decision as decision_module
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.testing import FakeVerifier

HEAD = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"), ("Host", "a"))
EXCHANGE = Exchange(method="GET", headers=HEAD)
RULES = ["GET /login"]


@pytest.fixture(autouse=True)
def own_urls():
    """Use this module's Django routes, even if another module has configured Django."""
    rest = {"UNAUTHENTICATED_USER": None}
    with override_settings(ROOT_URLCONF=__name__, REST_FRAMEWORK=rest):
        yield


def described(request):
    decision = get_decision(request)
    assert require_captcha(request) is decision
    assert require_captcha(request, "GET /login", strict=True) is decision
    return f"{decision.rule} {decision.verdict.code}"


def starlette_app():
    async def login(request):
        return PlainTextResponse(described(request))

    app = Starlette(routes=[Route("/login", login)])
    app.add_middleware(TCaptchaMiddleware, guard=Guard(RULES, FakeVerifier()))
    return app


def mounted_app():
    async def login(request):
        return PlainTextResponse(described(request))

    inner = Starlette(routes=[Route("/login", login)])
    inner.add_middleware(TCaptchaMiddleware, guard=Guard(RULES, FakeVerifier()))
    return Starlette(routes=[Mount("/", app=inner)])


def fastapi_app():
    app = FastAPI()

    @app.get("/login", response_class=PlainTextResponse)
    def login(request: FastAPIRequest) -> str:
        return described(request)

    app.add_middleware(TCaptchaMiddleware, guard=Guard(RULES, FakeVerifier()))
    return app


def litestar_app():
    @litestar_get("/login", media_type="text/plain")
    async def login(request: litestar.Request) -> str:
        return described(request)

    return TCaptchaMiddleware(
        Litestar([login], logging_config=None), Guard(RULES, FakeVerifier())
    )


def blacksheep_app():
    app = blacksheep.Application(router=blacksheep.Router())

    @app.router.get("/login")
    async def login(request: blacksheep.Request):
        return blacksheep.text(described(request))

    asyncio.run(app.start())
    return TCaptchaMiddleware(app, Guard(RULES, FakeVerifier()))


def quart_app():
    app = Quart(__name__)

    @app.get("/login")
    async def login():
        return described(quart_request)

    app.asgi_app = TCaptchaMiddleware(app.asgi_app, Guard(RULES, FakeVerifier()))
    return app


def django_view(request):
    return HttpResponse(described(request))


class RestView(APIView):
    def get(self, request):
        return RestResponse(described(request))


urlpatterns = [path("login", django_view), path("rest", RestView.as_view())]


def django_asgi_app():
    return TCaptchaMiddleware(get_asgi_application(), Guard(RULES, FakeVerifier()))


def flask_app():
    app = Flask(__name__)

    @app.get("/login")
    def login():
        return described(flask_request)

    app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, Guard(RULES, FakeVerifier()))
    return app


def bottle_app():
    app = Bottle()
    app.get("/login")(lambda: described(bottle_request))
    return TCaptchaWSGIMiddleware(app, Guard(RULES, FakeVerifier()))


def pyramid_app():
    with Configurator() as config:
        config.add_route("login", "/login")
        config.add_view(lambda request: PyramidResponse(described(request)), route_name="login")
        return TCaptchaWSGIMiddleware(config.make_wsgi_app(), Guard(RULES, FakeVerifier()))


def falcon_app():
    class Login:
        def on_get(self, request, response):
            response.text = described(request)

    app = falcon.App()
    app.add_route("/login", Login())
    return TCaptchaWSGIMiddleware(app, Guard(RULES, FakeVerifier()))


def django_wsgi_app():
    return TCaptchaWSGIMiddleware(get_wsgi_application(), Guard(RULES, FakeVerifier()))


ASGI = [
    starlette_app,
    mounted_app,
    fastapi_app,
    litestar_app,
    blacksheep_app,
    quart_app,
    django_asgi_app,
]
WSGI = [flask_app, bottle_app, pyramid_app, falcon_app, django_wsgi_app]


@pytest.mark.parametrize("make", ASGI, ids=lambda make: make.__name__)
def test_an_asgi_handler_reads_rule_and_verdict(make):
    sent = call_asgi(make(), scope_of(EXCHANGE), messages_of(EXCHANGE))
    assert (sent[0]["status"], sent[1]["body"]) == (200, b"GET /login 1")


@pytest.mark.parametrize("make", ASGI, ids=lambda make: make.__name__)
def test_an_asgi_handler_is_not_reached_without_a_ticket(make):
    bare = Exchange(method="GET", headers=(("Host", "a"),))
    assert call_asgi(make(), scope_of(bare), messages_of(bare))[0]["status"] == 403


@pytest.mark.parametrize("make", WSGI, ids=lambda make: make.__name__)
def test_a_wsgi_handler_reads_rule_and_verdict(make):
    status, _, body = call_wsgi(make(), environ_of(EXCHANGE))
    assert (status, body) == (200, b"GET /login 1")


@pytest.mark.parametrize("make", WSGI, ids=lambda make: make.__name__)
def test_a_wsgi_handler_is_not_reached_without_a_ticket(make):
    assert call_wsgi(make(), environ_of(Exchange(method="GET")))[0] == 403


def test_without_a_matching_rule_get_decision_returns_none():
    assert get_decision({"type": "http"}) is None
    assert get_decision({"tcaptcha": "Allow", "tcaptcha.decision": "Allow"}) is None


@pytest.mark.parametrize(
    "request_", [None, object(), "scope", 1], ids=["None", "object", "text", "1"]
)
def test_get_decision_rejects_other_objects(request_):
    with pytest.raises(TypeError, match="neither"):
        get_decision(request_)


def test_a_websocket_handler_reads_it_too():
    seen = []

    async def app(scope, receive, send):
        seen.append(get_decision(scope).rule)

    adapter = TCaptchaMiddleware(app, Guard(RULES, FakeVerifier()))
    asyncio.run(adapter(scope_of(EXCHANGE, "websocket"), None, None))
    assert seen == ["GET /login"]


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_view_of_django_rest_framework_reads_it_too(kind):
    guard = Guard([Rule("GET /rest", name="GET /login")], FakeVerifier())
    exchange = Exchange(
        method="GET", target="/rest", headers=(*HEAD, ("Accept", "application/json"))
    )
    if kind == "asgi":
        app = TCaptchaMiddleware(get_asgi_application(), guard)
        body = call_asgi(app, scope_of(exchange), messages_of(exchange))[1]["body"]
    else:
        body = call_wsgi(
            TCaptchaWSGIMiddleware(get_wsgi_application(), guard), environ_of(exchange)
        )[2]
    assert body == b'"GET /login 1"'


# -- require_captcha ------


@pytest.fixture(autouse=True)
def unlogged(monkeypatch):
    """Forget the calls that were logged before."""
    monkeypatch.setattr(log, "_handlers", log.RateLimit())


def status_of(run):
    """Return the status that a framework answers if it does not raise the error itself."""
    try:
        return run()
    except CaptchaRequired:
        return 500


@pytest.mark.parametrize("make", ASGI, ids=lambda make: make.__name__)
def test_an_asgi_handler_without_a_matching_rule_gives_500(make, monkeypatch, caplog):
    monkeypatch.setitem(globals(), "RULES", ["GET /other"])
    app = make()
    assert (
        status_of(
            lambda: call_asgi(app, scope_of(EXCHANGE), messages_of(EXCHANGE))[0]["status"]
        )
        == 500
    )
    assert "no rule of the gate covered this request" in caplog.text


@pytest.mark.parametrize("make", WSGI, ids=lambda make: make.__name__)
def test_a_wsgi_handler_without_a_matching_rule_gives_500(make, monkeypatch, caplog):
    monkeypatch.setitem(globals(), "RULES", ["GET /other"])
    app = make()
    assert status_of(lambda: call_wsgi(app, environ_of(EXCHANGE))[0]) == 500
    assert "no rule of the gate covered this request" in caplog.text


PASSED = Verdict(1)
DECISIONS = {
    "passed": (Allow("a", PASSED), True, True),
    "kill switch": (Allow("a", unchecked=Unchecked.SWITCHED_OFF), True, False),
    "observed": (Allow("a", Verdict(15), Unchecked.OBSERVED), True, False),
    "fail open": (Allow("a", unchecked=Unchecked.UNAVAILABLE), True, False),
    "disaster ticket": (Allow("a", unchecked=Unchecked.DISASTER_TICKET), True, False),
    "not asked": (Allow("a", unchecked=Unchecked.NOT_ASKED), True, False),
    "malicious": (Allow("a", Verdict(1, evil_level=100)), True, False),
    "preflight": (Allow("a", unchecked=Unchecked.PREFLIGHT), False, False),
    "deferred": (Allow("a", Verdict(15), Unchecked.DEFERRED), False, False),
    "deferred for its risk": (Allow("a", PASSED, Unchecked.DEFERRED), False, False),
    "none": (None, False, False),
    "made up": ("Allow", False, False),
}


def holds(holder, rule=None, **settings):
    try:
        return require_captcha(holder, rule, **settings)
    except CaptchaRequired:
        return None


@pytest.mark.parametrize("key", ["tcaptcha", "tcaptcha.decision"])
@pytest.mark.parametrize(("stored", "counts", "strict"), DECISIONS.values(), ids=DECISIONS)
def test_an_allow_counts_unless_it_is_a_preflight_or_deferred_and_with_strict_only_a_verdict(
    key, stored, counts, strict
):
    holder = {key: stored}
    assert holds(holder) is holds(holder, "a") is (stored if counts else None)
    assert (
        holds(holder, strict=True)
        is holds(holder, "a", strict=True)
        is (stored if strict else None)
    )
    assert holds(holder, "b") is None


def test_the_error_names_the_rule():
    with pytest.raises(CaptchaRequired, match="'b' did not cover this request, but 'a' did"):
        require_captcha({"tcaptcha": Allow("a", PASSED)}, "b")
    with pytest.raises(TCaptchaError, match="no captcha was verified for this request"):
        require_captcha({"tcaptcha": Allow("a")}, "a", strict=True)


def test_one_of_several_decisions_is_enough(monkeypatch):
    outer, inner = Allow("outer", PASSED), Allow("inner", unchecked=Unchecked.OBSERVED)
    monkeypatch.setattr(decision_module, "_decisions", lambda _: (outer, inner))
    assert get_decision({}) is inner
    assert holds({}) is holds({}, "outer") is holds({}, "outer", strict=True) is outer
    assert holds({}, "inner") is inner
    assert holds({}, "inner", strict=True) is None


def test_a_call_is_logged_once_a_minute_with_its_place(monkeypatch, caplog):
    clock = [1000.0]
    monkeypatch.setattr(log, "_handlers", log.RateLimit(lambda: clock[0]))

    def lines(times, *rule):
        for _ in range(times):
            with pytest.raises(CaptchaRequired):
                require_captcha({}, *rule)
        logged = [record for record in caplog.records if record.levelname == "ERROR"]
        caplog.clear()
        return logged

    (first,) = lines(3)
    assert f"{__file__}:" in first.getMessage()
    assert len(lines(3, "other")) == 1
    clock[0] += 59.0
    assert lines(3) == []
    clock[0] += 1.0
    (second,) = lines(3)
    assert second.getMessage().endswith(" (5 more since the last such line)")


@pytest.mark.parametrize("value", [None, object(), "scope"], ids=["None", "an object", "text"])
def test_require_captcha_rejects_other_objects(value):
    with pytest.raises(TypeError, match="neither"):
        require_captcha(value)
