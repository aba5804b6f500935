"""Mounts that only the application knows, or that `mounted_at` names."""

from __future__ import annotations

import asyncio

import pytest
import router_django  # noqa: F401  configures Django
from adapters import Exchange, environ_of, scope_of
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from fastapi import FastAPI
from flask import Flask
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
)
from tcaptcha_middleware.matching.paths import mount_of
from tcaptcha_middleware.testing import FakeVerifier

# Deprecated, but used and still honoured.
pytestmark = pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")

urlpatterns = []


@pytest.fixture
def forced_script_name():
    with override_settings(FORCE_SCRIPT_NAME="/api/", ROOT_URLCONF=__name__):
        yield


def guard(*rules, **more):
    return Guard(rules or ["POST /login"], FakeVerifier(), **more)


def statuses(middleware, *paths, method="POST"):
    """Send a request without a ticket for each path; returns the statuses."""
    return [_status(middleware, Exchange(method, path)) for path in paths]


def _status(middleware, exchange):
    status = []
    if isinstance(middleware, TCaptchaWSGIMiddleware):
        middleware(environ_of(exchange), lambda line, headers: status.append(int(line[:3])))
        return status[0]

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        status.append(message.get("status"))

    asyncio.run(middleware(scope_of(exchange), receive, send))
    return status[0]


def fastapi(**more):
    app = FastAPI(**more)
    app.add_api_route("/login", lambda: "in", methods=["POST"])
    app.add_api_route("/health", lambda: "ok")
    return app


def test_the_root_path_of_a_fastapi_application_is_read():
    app = fastapi(root_path="/api")
    for stack in (app, GZipMiddleware(app), GZipMiddleware(GZipMiddleware(app))):
        gate = TCaptchaMiddleware(stack, guard())
        assert statuses(gate, "/api/login", "/login", "/API/login") == [403, 403, 403]
    assert statuses(app, "/api/login", "/login") == [200, 200]


@pytest.mark.parametrize("rule", ["POST /login", "POST /api/login"])
def test_mounted_at_protects_below_a_mount_that_only_the_application_knows(rule):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    gate = TCaptchaMiddleware(app, guard(rule, mounted_at="/api"))
    assert statuses(gate, "/api/login", "/login", "//api/login") == [403, 403, 403]
    assert statuses(gate, "/other", "/api/other") == [200, 200]


def test_exemptions_are_paths_below_the_mount():
    gate = TCaptchaMiddleware(fastapi(root_path="/api"), guard("/**", exempt=["/health"]))
    assert statuses(gate, "/api/health", "/health", method="GET") == [200, 200]
    assert (
        statuses(gate, "/api/api/health", "/api/login", "/API/health", method="GET")
        == [403] * 3
    )


def test_one_guard_may_protect_applications_with_different_mounts():
    shared = guard("POST /login")
    gates = [TCaptchaMiddleware(fastapi(root_path=root), shared) for root in ("/a", "/b", "")]
    assert [statuses(gate, "/a/login", "/b/login") for gate in gates] == [
        [403, 404],
        [404, 403],
        [404, 404],
    ]


@pytest.mark.usefixtures("forced_script_name")
@pytest.mark.parametrize("rule", ["POST /login", "POST /api/login"])
def test_djangos_force_script_name_is_read(rule):
    gate = TCaptchaMiddleware(ASGIHandler(), guard(rule))
    assert statuses(gate, "/api/login", "/login") == [403, 403]
    gate = TCaptchaWSGIMiddleware(WSGIHandler(), guard(rule))
    assert statuses(gate, "/login") == [403]


@pytest.mark.usefixtures("forced_script_name")
def test_under_wsgi_djangos_script_name_is_not_part_of_the_path():
    # Django serves PATH_INFO as it is, so `/api/health` is another path than `/health`.
    gate = TCaptchaWSGIMiddleware(WSGIHandler(), guard("/**", exempt=["/health"]))
    assert statuses(gate, "/health", "/api/health", method="GET") == [404, 403]


@pytest.mark.usefixtures("forced_script_name")
def test_a_mount_that_contradicts_the_application_is_refused():
    for app, says in (
        (fastapi(root_path="/v1"), "FastAPI's root_path is '/v1'"),
        (ASGIHandler(), "Django's FORCE_SCRIPT_NAME is '/api'"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            TCaptchaMiddleware(app, guard(mounted_at="/other"))
    with pytest.raises(ConfigurationError, match="FORCE_SCRIPT_NAME"):
        TCaptchaWSGIMiddleware(WSGIHandler(), guard(mounted_at="/other"))
    TCaptchaMiddleware(fastapi(root_path="/v1/"), guard(mounted_at="/v1"))


def test_a_root_path_that_cannot_be_a_mount_is_refused():
    with pytest.raises(ConfigurationError, match="FastAPI's root_path is 'api'"):
        TCaptchaMiddleware(fastapi(root_path="api"), guard())


@pytest.mark.parametrize(
    "mount", ["api", "/", "/api/", "/a//b", "/a%20b", "/../a", "/a?x", 1, None]
)
def test_a_mounted_at_that_cannot_be_a_mount_is_refused(mount):
    with pytest.raises(ConfigurationError, match=r'mounted_at is .*such as "/api"'):
        guard(mounted_at=mount)


class Endless:
    """An application whose `app` attribute is itself."""

    @property
    def app(self):
        return self


def test_root_path_of_other_frameworks_does_not_count_as_a_mount():
    # Flask's and Quart's `root_path` is a folder.
    for app in (
        Flask(__name__),
        Quart(__name__),
        Starlette(),
        FastAPI(),
        ASGIHandler(),
        Endless(),
    ):
        assert mount_of(app, "") == ""
        assert mount_of(app, "/api") == "/api"


def test_the_page_is_served_below_the_mount():
    app = fastapi(root_path="/api")
    gate = TCaptchaMiddleware(app, guard(page="/tcaptcha"))
    paths = ["/api/tcaptcha/tcaptcha.js", "/tcaptcha/tcaptcha.js"]
    assert statuses(gate, *paths, method="GET") == [200, 200]
