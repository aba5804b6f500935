"""Cloud functions: an adapter starts and shuts down the application for each invocation."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import closing

import pytest
from mangum import Mangum
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tencents import answering, http

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier
from tcaptcha_middleware.testing import TencentEmulator


def event(pair):
    """Return what AWS hands to a function for `POST /login`."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/login",
        "rawQueryString": "",
        "headers": {"content-type": "application/json", "host": "a"},
        "requestContext": {
            "http": {
                "method": "POST",
                "path": "/login",
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
            }
        },
        "body": json.dumps(pair),
        "isBase64Encoded": False,
    }


class Counting:
    """Answers calls, and counts connections."""

    def __init__(self):
        self.connections = 0
        self.answer = http()
        self.ended = threading.Semaphore(0)

    def __call__(self, connection):
        self.connections += 1
        while call := connection.recv(65536):
            if call.endswith(b"}"):
                connection.sendall(self.answer)
        self.ended.release()


@pytest.fixture
def loop():
    with closing(asyncio.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        yield loop
        asyncio.set_event_loop(None)


async def login(request):
    return PlainTextResponse(str(request.scope["tcaptcha"].verdict.code))


def function_of(endpoint):
    """Return a function behind the gate, and the guard."""
    verifier = TencentVerifier(**TencentEmulator().settings, endpoint=endpoint)
    guard = Guard(["POST /login"], verifier)
    app = Starlette(routes=[Route("/login", login, methods=["POST"])])
    return Mangum(TCaptchaMiddleware(app, guard), lifespan="on"), guard


def invoke(function, number):
    return function(event({"ticket": f"tr03{number}", "randstr": "@r"}), None)


def test_connections_outlive_the_shutdown_after_each_invocation(loop, monkeypatch):
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "login")
    upstream = Counting()
    with answering(upstream) as endpoint:
        function, guard = function_of(endpoint)
        answers = [invoke(function, number)["statusCode"] for number in range(10)]
        assert answers == [200] * 10
        assert upstream.connections == 1
        loop.run_until_complete(guard.aclose())
        assert upstream.ended.acquire(timeout=5)


def test_outside_of_functions_a_shutdown_closes_connections(loop, monkeypatch):
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    upstream = Counting()
    with answering(upstream) as endpoint:
        function, _ = function_of(endpoint)
        for number in range(2):
            assert invoke(function, number)["statusCode"] == 200
            assert upstream.ended.acquire(timeout=5)
        assert upstream.connections == 2
