"""The accessor reads the decision from every framework's own request."""

from __future__ import annotations

import asyncio

import django
import falcon
import falcon.testing
import pytest
from adapters import Exchange, call_asgi, call_wsgi, environ_of, messages_of, scope_of
from bottle import Bottle
from bottle import request as bottle_request
from django.conf import settings
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest  # noqa: TC002  FastAPI reads annotations
from flask import Flask
from flask import request as flask_request
from pyramid.config import Configurator
from pyramid.response import Response as PyramidResponse
from quart import Quart
from quart import request as quart_request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TCaptchaWSGIMiddleware, get_decision
from tcaptcha_middleware.testing import FakeVerifier

if not settings.configured:
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    django.setup()

from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

HEAD = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"), ("Host", "a"))
EXCHANGE = Exchange(method="GET", headers=HEAD)
RULES = ["GET /login"]


def told(request):
    found = get_decision(request)
    return f"{found.rule} {found.verdict.code}"


def starlette_app():
    async def login(request):
        return PlainTextResponse(told(request))

    app = Starlette(routes=[Route("/login", login)])
    app.add_middleware(TCaptchaMiddleware, guard=Guard(RULES, FakeVerifier()))
    return app


def mounted_app():
    async def login(request):
        return PlainTextResponse(told(request))

    inner = Starlette(routes=[Route("/login", login)])
    inner.add_middleware(TCaptchaMiddleware, guard=Guard(RULES, FakeVerifier()))
    return Starlette(routes=[Mount("/", app=inner)])


def fastapi_app():
    app = FastAPI()

    @app.get("/login", response_class=PlainTextResponse)
    def login(request: FastAPIRequest) -> str:
        return told(request)

    app.add_middleware(TCaptchaMiddleware, guard=Guard(RULES, FakeVerifier()))
    return app


def quart_app():
    app = Quart(__name__)

    @app.get("/login")
    async def login():
        return told(quart_request)

    app.asgi_app = TCaptchaMiddleware(app.asgi_app, Guard(RULES, FakeVerifier()))
    return app


def django_view(request):
    return HttpResponse(told(request))


urlpatterns = [path("login", django_view)]


def django_asgi_app():
    return TCaptchaMiddleware(get_asgi_application(), Guard(RULES, FakeVerifier()))


def flask_app():
    app = Flask(__name__)

    @app.get("/login")
    def login():
        return told(flask_request)

    app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, Guard(RULES, FakeVerifier()))
    return app


def bottle_app():
    app = Bottle()
    app.get("/login")(lambda: told(bottle_request))
    return TCaptchaWSGIMiddleware(app, Guard(RULES, FakeVerifier()))


def pyramid_app():
    with Configurator() as config:
        config.add_route("login", "/login")
        config.add_view(lambda request: PyramidResponse(told(request)), route_name="login")
        return TCaptchaWSGIMiddleware(config.make_wsgi_app(), Guard(RULES, FakeVerifier()))


def falcon_app():
    class Login:
        def on_get(self, request, response):
            response.text = told(request)

    app = falcon.App()
    app.add_route("/login", Login())
    return TCaptchaWSGIMiddleware(app, Guard(RULES, FakeVerifier()))


def django_wsgi_app():
    return TCaptchaWSGIMiddleware(get_wsgi_application(), Guard(RULES, FakeVerifier()))


ASGI = [starlette_app, mounted_app, fastapi_app, quart_app, django_asgi_app]
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


def test_where_no_rule_covers_the_request_there_is_no_decision():
    assert get_decision({"type": "http"}) is None
    assert get_decision({"tcaptcha": "Allow", "tcaptcha.decision": "Allow"}) is None


@pytest.mark.parametrize("request_", [None, object(), "scope", 1], ids=repr)
def test_what_is_no_request_is_told_so(request_):
    with pytest.raises(TypeError, match="neither"):
        get_decision(request_)


def test_a_websocket_handler_reads_it_too():
    seen = []

    async def app(scope, receive, send):
        seen.append(get_decision(scope).rule)

    face = TCaptchaMiddleware(app, Guard(RULES, FakeVerifier()))
    asyncio.run(face(scope_of(EXCHANGE, "websocket"), None, None))
    assert seen == ["GET /login"]
