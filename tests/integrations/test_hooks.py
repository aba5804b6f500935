"""Hooks that use the session, the user or the application, in each framework."""

from __future__ import annotations

import asyncio
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType

import flask
import pytest
import quart
from fastapi import FastAPI
from fastapi.testclient import TestClient
from fresh_pairs import pair
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import post as litestar_post
from litestar.middleware.session import SessionMiddleware as LitestarSessions
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.testing import TestClient as LitestarClient
from quart.testing import WebsocketResponseError
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection
from werkzeug.exceptions import RequestTimeout

from tcaptcha_middleware import (
    ConfigurationError,
    Rule,
    TencentVerifier,
    TrustedProxies,
)
from tcaptcha_middleware.integrations.fastapi import protect
from tcaptcha_middleware.integrations.flask import TCaptcha
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
from tcaptcha_middleware.integrations.quart import TCaptcha as QuartTCaptcha
from tcaptcha_middleware.testing import FakeVerifier

# -- Flask ------


def flask_app():
    app = flask.Flask("app", static_folder=None)
    app.secret_key = "secret"

    @app.post("/join")
    def join():
        flask.session["member"] = True
        return ""

    return app


def echo():
    return flask.request.get_data()


def is_guest(_):
    return not flask.session.get("member")


def guest_and_member(app, path="/login"):
    """Return the statuses of a guest and of a member, neither of which has a ticket."""
    client = app.test_client()
    guest = client.post(path, data=b"body")
    client.post("/join")
    member = client.post(path, data=b"body")
    return guest.status_code, member.status_code


def test_when_of_a_mark_has_the_session_of_flask():
    app = flask_app()
    captcha = TCaptcha(app, FakeVerifier())
    app.post("/login")(captcha.required(when=is_guest)(echo))
    assert guest_and_member(app) == (403, 200)
    assert app.test_client().post("/login", headers=pair(), data=b"body").text == "body"


def test_when_of_the_guard_and_of_a_rule_have_the_session_of_flask():
    app = flask_app()
    captcha = TCaptcha(app, FakeVerifier(), [Rule("POST /other", when=is_guest)])
    app.post("/login")(captcha.required(echo))
    app.post("/other", endpoint="other")(lambda: "in")
    assert guest_and_member(app) == (403, 403)
    assert guest_and_member(app, "/other") == (403, 200)
    app = flask_app()
    captcha = TCaptcha(app, FakeVerifier(), when=is_guest)
    app.post("/login")(captcha.required(echo))
    assert guest_and_member(app) == (403, 200)


def test_the_other_hooks_of_flask_have_the_application_and_the_request():
    app, seen = flask_app(), []

    def client_ip(_):
        seen.append(flask.current_app.name)
        return flask.request.headers["X-Address"]

    def responder(_, refuse):
        return flask.jsonify(refuse.reason, flask.request.path)

    verifier = FakeVerifier()
    captcha = TCaptcha(app, verifier, client_ip=client_ip, responder=responder)
    app.post("/login")(captcha.required(echo))
    client = app.test_client()
    assert client.post("/login").json == ["ticket_missing", "/login"]
    headers = {"X-Address": "203.0.113.7"} | pair()
    assert client.post("/login", headers=headers, data=b"body").text == "body"
    assert (seen, verifier.tickets[0].user_ip) == (["app"], "203.0.113.7")


def test_a_hook_that_reads_the_body_fails_and_the_view_still_gets_it(caplog):
    app = flask_app()
    captcha = TCaptcha(app, FakeVerifier())
    app.post("/login")(captcha.required(when=lambda _: "a" in flask.request.form)(echo))
    app.post("/seen", endpoint="seen")(captcha.required(when=lambda _: _reads_body())(echo))
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    client = app.test_client()
    assert client.post("/login", headers=form, data=b"a=1").status_code == 500
    assert "RuntimeError" in caplog.text
    assert client.post("/seen", headers=form, data=b"a=1").get_data() == b"a=1"


def _reads_body():
    with pytest.raises(RuntimeError):
        flask.request.get_data()
    return False


def test_each_hook_has_a_context_of_its_own_that_is_torn_down():
    app, torn_down = flask_app(), []
    app.teardown_appcontext(torn_down.append)
    captcha = TCaptcha(app, FakeVerifier())

    def is_needed(_):
        flask.g.hook = True
        assert torn_down == []
        return False

    @app.post("/login")
    @captcha.required(when=is_needed)
    def login():
        assert torn_down == [None]
        return str("hook" in flask.g)

    assert app.test_client().post("/login").text == "False"


@pytest.mark.parametrize("settings", [{}, {"client_ip": TrustedProxies(["10.0.0.0/8"])}])
def test_a_request_without_hooks_causes_no_context(monkeypatch, settings):
    app = flask_app()
    captcha = TCaptcha(app, FakeVerifier(), **settings)
    app.post("/login")(captcha.required(echo))
    environs, make = [], app.request_context
    monkeypatch.setattr(app, "request_context", lambda e: environs.append(e) or make(e))
    client = app.test_client()
    assert client.post("/login").status_code == 403
    assert environs == []
    assert client.post("/login", headers=pair()).status_code == 200
    assert len(environs) == 1  # Flask's own


def test_a_page_asks_a_hook_of_flask_about_the_request_that_it_will_send():
    app = flask_app()
    seen = []

    def when(_):
        seen.append((flask.request.method, flask.request.endpoint, flask.request.query_string))
        return False

    captcha = TCaptcha(app, FakeVerifier(), page="/tcaptcha")
    app.post("/登录", endpoint="login")(captcha.required(when=when)(echo))
    client = app.test_client()
    target = "POST /%E7%99%BB%E5%BD%95?fast=1"
    settings = client.get("/tcaptcha/settings.json", query_string={"for": target}).get_json()
    assert settings["required"] is False
    assert client.post("/登录?fast=1").status_code == 200
    assert seen == [("POST", "login", b"fast=1")] * 2


def test_an_async_when_is_still_an_error_in_flask():
    async def is_needed(_):
        raise AssertionError

    with pytest.raises(ConfigurationError, match="when is async"):
        TCaptcha(flask_app(), FakeVerifier(), ["POST /login"], when=is_needed)


@pytest.mark.parametrize("app", [flask_app(), quart.Quart("app")], ids=["flask", "quart"])
def test_a_rule_with_a_hook_keeps_its_state_when_other_views_are_marked(app):
    captcha = (TCaptcha if isinstance(app, flask.Flask) else QuartTCaptcha)(app, FakeVerifier())
    app.add_url_rule("/a", "a", captcha.required(when=is_guest)(echo), methods=["POST"])
    guard = app.extensions["tcaptcha"]
    before = guard.match("POST", "/a")
    app.add_url_rule("/b", "b", captcha.required(echo), methods=["POST"])
    assert guard.match("POST", "/a") is not before
    assert guard.match("POST", "/a").budget is before.budget


# -- Quart ------


def quart_app():
    app = quart.Quart("app", static_folder=None)
    app.secret_key = "secret"

    @app.post("/join")
    async def join():
        quart.session["member"] = True
        return ""

    return app


async def quart_echo():
    return await quart.request.get_data()


async def is_guest_async(_):
    await asyncio.sleep(0)
    assert quart.current_app.name == "app"
    assert quart.request.path
    return not quart.session.get("member")


@pytest.mark.parametrize("when", [is_guest_async, lambda _: not quart.session.get("member")])
def test_when_has_the_session_of_quart(when):
    app = quart_app()
    captcha = QuartTCaptcha(app, FakeVerifier())
    app.post("/login")(captcha.required(when=when)(quart_echo))

    async def converse():
        client = app.test_client()
        guest = await client.post("/login", data=b"body")
        await client.post("/join")
        member = await client.post("/login", data=b"body")
        return guest.status_code, member.status_code, await member.get_data()

    assert asyncio.run(converse()) == (403, 200, b"body")


def test_a_page_asks_a_hook_of_quart_about_the_request_that_it_will_send():
    app = quart_app()
    seen = []

    def when(_):
        seen.append((quart.request.method, quart.request.endpoint, quart.request.query_string))
        return False

    captcha = QuartTCaptcha(app, FakeVerifier(), page="/tcaptcha")
    app.post("/登录", endpoint="login")(captcha.required(when=when)(quart_echo))

    async def converse():
        client = app.test_client()
        asked = {"for": "POST /%E7%99%BB%E5%BD%95?fast=1"}
        page = await client.get("/tcaptcha/settings.json", query_string=asked)
        return await page.get_json(), (await client.post("/登录?fast=1")).status_code

    settings, status = asyncio.run(converse())
    assert (settings["required"], status) == (False, 200)
    assert seen == [("POST", "login", b"fast=1")] * 2


def test_a_hook_of_quart_that_reads_the_body_fails_at_once_and_leaves_it(caplog):
    async def reads_body(_):
        await quart.request.form

    async def catches(_):
        with pytest.raises(RequestTimeout):
            await quart.request.get_data()
        return False

    app = quart_app()
    captcha = QuartTCaptcha(app, FakeVerifier())
    app.post("/login")(captcha.required(when=reads_body, check_timeout=2)(quart_echo))
    app.post("/seen", endpoint="seen")(captcha.required(when=catches)(quart_echo))

    async def converse():
        client = app.test_client()
        refused = await client.post("/login", form={"a": "1"})
        allowed = await client.post("/seen", data=b"body")
        return refused.status_code, await allowed.get_data()

    assert asyncio.run(converse()) == (500, b"body")
    assert "RequestTimeout" in caplog.text


def test_a_hook_for_a_websocket_has_the_context_of_a_websocket():
    app = quart_app()
    captcha = QuartTCaptcha(app, FakeVerifier())

    @app.websocket("/socket")
    @captcha.required(when=lambda _: quart.websocket.args.get("a") != "1")
    async def socket():
        await quart.websocket.send("hello")

    @asynccontextmanager
    async def connected(path):
        async with app.test_client().websocket(path) as websocket:
            yield await websocket.receive()

    async def converse():
        async with connected("/socket?a=1") as text:
            assert text == "hello"
        with pytest.raises(WebsocketResponseError):
            async with connected("/socket"):
                pass

    asyncio.run(converse())


# -- The documentation ------

PAGE = (Path(__file__).parents[2] / "docs/integrations.md").read_text()


@pytest.mark.parametrize("framework", ["FastAPI and Starlette", "Flask and Quart", "Litestar"])
def test_the_documented_hook_asks_guests_only(framework, monkeypatch):
    monkeypatch.setattr(TencentVerifier, "from_env", FakeVerifier)
    (code,) = re.findall(
        rf"^### Hooks in {framework}$.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    main = ModuleType("main")
    monkeypatch.setitem(sys.modules, "main", main)  # where Litestar looks for types
    exec(code, vars(main))
    app = main.app
    if isinstance(app, FastAPI):

        @app.post("/join")
        def join(connection: HTTPConnection) -> None:
            connection.session["member"] = True

        client = TestClient(app)
    elif isinstance(app, Litestar):
        app.register(litestar_join)
        client = LitestarClient(app)
    else:
        app.add_url_rule(
            "/join", view_func=lambda: flask.session.update(member=1) or "", methods=["POST"]
        )
        client = app.test_client()
    assert client.post("/comments").status_code == 403
    client.post("/join")
    assert client.post("/comments").status_code in (200, 201)


class Members(AuthenticationBackend):
    async def authenticate(self, conn):
        name = conn.headers.get("X-User")
        return None if name is None else (AuthCredentials(), SimpleUser(name))


@pytest.mark.parametrize(("order", "status"), [("after", 200), ("before", 500)])
def test_the_user_is_known_if_its_middleware_is_added_after_protect(order, status):
    app = FastAPI(openapi_url=None)

    def is_needed(info):
        return not HTTPConnection(info.raw).user.is_authenticated

    if order == "before":
        app.add_middleware(AuthenticationMiddleware, backend=Members())
    protect(app, FakeVerifier(), ["POST /login"], when=is_needed)
    if order == "after":
        app.add_middleware(AuthenticationMiddleware, backend=Members())
    app.post("/login")(lambda: "in")
    client = TestClient(app)
    assert client.post("/login", headers={"X-User": "Ada"}).status_code == status
    assert client.post("/login").status_code == (403 if status == 200 else 500)


# -- Litestar ------

SESSIONS = CookieBackendConfig(secret=b"a" * 16).middleware


@litestar_post("/join")
async def litestar_join(request: LitestarRequest) -> None:
    request.session["member"] = True


def litestar_app(when, *middleware):
    @litestar_post("/login", opt={"tcaptcha": {"when": when}})
    async def login() -> None: ...

    plugin = TCaptchaPlugin(verifier=FakeVerifier())
    return Litestar(
        [litestar_join, login], plugins=[plugin], middleware=middleware, logging_config=None
    )


def guest_and_member_of_litestar(app):
    with LitestarClient(app, raise_server_exceptions=False) as client:
        guest = client.post("/login")
        assert client.post("/join").is_success
        return guest.status_code, client.post("/login").status_code


def test_when_loads_the_session_of_litestar_from_a_cookie():
    async def is_needed(info):
        backend = SESSIONS.kwargs["backend"]
        session = await backend.load_from_connection(LitestarRequest(info.raw))
        return not session.get("member")

    assert guest_and_member_of_litestar(litestar_app(is_needed, SESSIONS)) == (403, 201)


def test_when_of_litestar_has_the_cookies_of_the_request():
    app = litestar_app(
        lambda info: "session" not in LitestarRequest(info.raw).cookies, SESSIONS
    )
    assert guest_and_member_of_litestar(app) == (403, 201)


def no_member(info):
    return not LitestarRequest(info.raw).session.get("member")


@pytest.mark.parametrize(
    "around",
    [
        lambda app: SessionMiddleware(app, "secret"),
        lambda app: LitestarSessions(app, SESSIONS.kwargs["backend"]),
    ],
    ids=["starlette", "litestar"],
)
def test_when_of_litestar_has_the_session_of_a_middleware_around_the_application(around):
    assert guest_and_member_of_litestar(around(litestar_app(no_member))) == (403, 201)


def test_when_that_needs_a_session_of_a_middleware_behind_the_gate_fails_closed():
    app = litestar_app(no_member, SESSIONS)
    assert guest_and_member_of_litestar(app) == (500, 500)
