"""Handlers of Litestar that are marked by their `opt`, and `TCaptchaPlugin(verifier=…)`."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import litestar
import pytest
from adapters import Exchange, call_asgi, messages_of, scope_of
from fastapi import FastAPI
from fresh_pairs import pair
from litestar import Litestar, asgi, get, post, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient
from openapi_spec_validator import validate

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    Rule,
    TCaptchaMiddleware,
    TencentVerifier,
    get_decision,
)
from tcaptcha_middleware.integrations.fastapi import protect
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
from tcaptcha_middleware.integrations.marks import marked_rules
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.operations import startup
from tcaptcha_middleware.testing import FakeVerifier

MARKED = {"tcaptcha": True}
GUARD = Guard(["POST /other"], FakeVerifier())


@post("/login", status_code=200, media_type="text/plain")
async def unmarked(request: litestar.Request) -> str:
    decision = get_decision(request)
    return decision.rule if decision else "no rule"


def handler(path="/login", *, option: object = True, method="POST"):
    route = litestar.route(
        path,
        http_method=method,
        status_code=200,
        media_type="text/plain",
        opt={"tcaptcha": option},
    )
    return route(unmarked.fn)


def app_of(*handlers, plugin=None, openapi_config=None, **settings):
    plugins = [plugin or TCaptchaPlugin(verifier=FakeVerifier())]
    return Litestar(
        list(handlers),
        plugins=plugins,
        openapi_config=openapi_config,
        logging_config=None,
        **settings,
    )


def posted(app, path):
    """Return the status without a ticket, and the answer with one."""
    client = TestClient(app, raise_server_exceptions=False)
    bare, answer = client.post(path), client.post(path, headers=pair())
    return bare.status_code, answer.text if answer.is_success else answer.status_code


def rules_of(*handlers, **settings):
    return [rule.text for rule in marked_rules(app_of(*handlers, **settings))]


# -- what is marked ------


def test_a_router_and_a_controller_mark_their_handlers():
    class Users(litestar.Controller):
        path = "/users"
        opt = MARKED

        @post("/login", status_code=200)
        async def login(self) -> str:
            return "in"

        @post("/logout", status_code=200, opt={"tcaptcha": False})
        async def logout(self) -> str:
            return "out"

    router = litestar.Router("/admin", route_handlers=[unmarked], opt=MARKED)
    app = app_of(Users, router, unmarked)
    assert posted(app, "/users/login") == (403, "in")
    assert posted(app, "/users/logout") == (200, "out")
    assert posted(app, "/admin/login") == (403, "POST /admin/login")
    assert posted(app, "/login") == (200, "no rule")


@pytest.mark.parametrize(
    "settings", [{"opt": MARKED}, {"route_handlers": [unmarked], "path": "/"}], ids=str
)
def test_litestars_own_answer_to_options_needs_no_ticket(settings):
    if "path" in settings:
        app = app_of(litestar.Router(**settings, opt=MARKED))
    else:
        app = app_of(unmarked, **settings)
    assert posted(app, "/login") == (403, "POST /login")
    assert TestClient(app, raise_server_exceptions=False).options("/login").is_success


@pytest.mark.parametrize("method", ["POST", "post", "POST "])
def test_the_lock_of_a_handler_holds_for_each_spelling_of_its_method(method):
    ran = []

    @asgi("/raw", copy_scope=True, opt={"tcaptcha": {"methods": ["POST"]}})
    async def raw(scope: Any, receive: Any, send: Any) -> None:
        ran.append(scope["method"])

    app = app_of(raw, plugin=TCaptchaPlugin(verifier=FakeVerifier(), exempt=["/raw"]))
    exchange = Exchange(method, "/raw")
    with suppress(ConfigurationError):
        call_asgi(app, scope_of(exchange), messages_of(exchange))
    assert ran == []


def test_the_options_of_an_application_mark_every_handler():
    assert rules_of(unmarked, handler("/free", option=False), opt=MARKED) == ["POST /login"]


def test_an_empty_dict_marks_a_handler():
    assert rules_of(handler(option={})) == ["POST /login"]


def test_one_function_may_have_two_marks_at_two_paths():
    app = app_of(handler("/a"), handler("/b", option={"mode": "observe"}))
    assert posted(app, "/a") == (403, "POST /a")
    assert posted(app, "/b") == (200, "POST /b")


def test_one_handler_may_be_in_two_applications_with_other_options():
    marked, free = app_of(unmarked, opt=MARKED), app_of(unmarked)
    assert posted(marked, "/login") == (403, "POST /login")
    assert posted(free, "/login") == (200, "no rule")


@pytest.mark.parametrize(
    ("path", "text"),
    {
        "/users/{id:int}": "/users/{id}",
        "/users/{id:uuid}/{x:str}": "/users/{id}/{x}",
        "/files/{name:path}": "/files/**",
    }.items(),
)
def test_a_path_of_litestar_becomes_the_path_of_a_rule(path, text):
    assert rules_of(handler(path)) == [f"POST {text}"]


def test_a_websocket_and_an_asgi_handler_may_be_marked():
    @websocket("/socket", opt=MARKED)
    async def socket(socket: litestar.WebSocket) -> None:
        await socket.accept()
        await socket.send_text(get_decision(socket).rule)
        await socket.close()

    @asgi("/asgi", opt=MARKED, copy_scope=True)
    async def raw(
        scope: litestar.types.Scope, receive: litestar.types.Receive, send: litestar.types.Send
    ) -> None:
        await litestar.response.base.ASGIResponse(body=b"raw")(scope, receive, send)

    app = app_of(socket, raw)
    client = TestClient(app)
    with client.websocket_connect("/socket", headers=pair()) as connection:
        assert connection.receive_text() == "GET /socket"
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/socket"):
        pass
    assert posted(app, "/asgi") == (403, "raw")


def test_a_method_that_is_added_later_at_the_path_of_another_is_gated_at_once():
    app = app_of(get("/login")(unmarked.fn))
    assert posted(app, "/login") == (405, 405)
    app.register(handler())
    assert posted(app, "/login") == (403, "POST /login")
    app.register(handler(method="PUT"))
    assert posted(app, "/login") == (403, "POST /login")
    assert TestClient(app).put("/login").status_code == 403


# -- mounted applications ------


def mounted_at(path, app, **settings):
    return asgi(path, is_mount=True, copy_scope=True, **settings)(app)


def test_a_mounted_application_has_a_plugin_of_its_own():
    app = app_of(mounted_at("/mount", app_of(handler())), handler())
    assert posted(app, "/login") == (403, "POST /login")
    assert posted(app, "/mount/login") == (403, "POST /login")
    # Litestar leads this one to the mount, too.
    assert posted(app, "/mountlogin") == (403, "POST /login")


def without_a_plugin():
    return Litestar([handler()], openapi_config=None, logging_config=None)


UNREAD = (
    r"nothing reads the mark in opt of .*unmarked, or it was rejected: give its application "
)


def test_a_marked_handler_in_a_mounted_application_without_a_plugin_is_an_error(caplog):
    app = app_of(mounted_at("/mount", without_a_plugin()))
    assert posted(app, "/mount/login") == (500, 500)
    # Litestar itself logs no exception.
    assert re.search(UNREAD, caplog.text)


def test_a_marked_handler_mounted_in_another_framework_without_a_plugin_is_an_error():
    app = FastAPI(openapi_url=None)
    protect(app, FakeVerifier())
    app.mount("/mount", without_a_plugin())
    with pytest.raises(ConfigurationError, match=UNREAD):
        TestClient(app).post("/mount/login")


@pytest.mark.parametrize(
    "around",
    [
        lambda app: app_of(mounted_at("/mount", app), plugin=TCaptchaPlugin(GUARD)),
        lambda app: TCaptchaMiddleware(app, GUARD),
    ],
    ids=["in another application", "in a middleware"],
)
def test_a_mark_that_nothing_reads_behind_a_guard_is_an_error_of_check(around):
    with pytest.raises(ConfigurationError, match=UNREAD):
        check(around(without_a_plugin()))


def test_a_mounted_application_with_marks_that_nothing_reads_stops_the_start_up():
    app = app_of(mounted_at("/mount", without_a_plugin()), plugin=TCaptchaPlugin(GUARD))
    with pytest.raises(ExceptionGroup) as info, TestClient(app):
        raise AssertionError
    assert info.group_contains(ConfigurationError, match=UNREAD)


def test_a_mount_cannot_be_marked():
    problem = r"Litestar.* has opt=.*: a mount cannot be marked: write False there"
    with pytest.raises(ConfigurationError, match=problem):
        app_of(mounted_at("/mount", without_a_plugin(), opt=MARKED))


# -- other plugins, and applications without one ------


def test_check_rejects_an_application_without_a_plugin():
    with pytest.raises(ConfigurationError, match=UNREAD):
        check(without_a_plugin())


def test_a_mark_that_nothing_reads_is_logged_at_start_up(caplog, monkeypatch):
    monkeypatch.setattr(startup, "start_daemon", lambda run, _: run())
    with TestClient(TCaptchaMiddleware(without_a_plugin(), GUARD)):
        pass
    (record,) = [record for record in caplog.records if re.search(UNREAD, record.message)]
    assert record.levelname == "ERROR"


def test_a_plugin_with_a_guard_rejects_marks():
    plugin = TCaptchaPlugin(Guard(["POST /login"], FakeVerifier()))
    problem = r"has opt=.*: TCaptchaPlugin\(guard\) reads no marks: write TCaptchaPlugin\(ver"
    with pytest.raises(ConfigurationError, match=problem):
        app_of(handler(), plugin=plugin)
    assert posted(app_of(handler(option=False), plugin=plugin), "/login") == (
        403,
        "POST /login",
    )


@pytest.mark.parametrize("order", [1, -1])
def test_a_plugin_with_a_guard_may_be_beside_the_one_that_reads_marks(order):
    guard = Guard(["POST /other"], FakeVerifier())
    plugins = [TCaptchaPlugin(guard), TCaptchaPlugin(verifier=FakeVerifier())]
    handlers = [handler(), handler("/other", option=False)]
    app = Litestar(handlers, plugins=plugins[::order], logging_config=None)
    assert posted(app, "/login") == (403, "POST /login")
    assert posted(app, "/other") == (403, "POST /other")


def test_two_applications_with_one_plugin_that_reads_marks_are_an_error():
    plugin = TCaptchaPlugin(verifier=FakeVerifier())
    app_of(handler(), plugin=plugin)
    with pytest.raises(ConfigurationError, match="two applications have the same TCaptchaPl"):
        app_of(handler(), plugin=plugin)


def test_a_mark_is_locked_if_the_application_had_no_route_on_construction(caplog):
    app = app_of()
    app.register(handler())
    assert posted(app, "/login") == (500, 500)
    assert "TCaptchaPlugin(verifier=…), and a route on construction" in caplog.text


# -- what the plugin adds ------


def test_the_document_describes_marked_handlers_also_later_ones():
    plugin = TCaptchaPlugin(verifier=FakeVerifier())
    config = litestar.openapi.OpenAPIConfig(title="Shop", version="1")
    app = app_of(
        handler(), handler("/free", option=False), plugin=plugin, openapi_config=config
    )
    app.register(handler("/late"))
    document = TestClient(app).get("/schema/openapi.json").json()
    validate(document)
    described = {
        path: item["post"].get("x-tcaptcha") for path, item in document["paths"].items()
    }
    assert {path: own and own["rule"] for path, own in described.items()} == {
        "/login": "POST /login",
        "/free": None,
        "/late": "POST /late",
    }


class Closing(FakeVerifier):
    closed = 0

    async def aclose(self):
        self.closed += 1


def test_the_verifiers_are_closed_on_shutdown_also_those_of_marks():
    shared, own = Closing(), Closing()
    plugin = TCaptchaPlugin(verifier=shared)
    with TestClient(
        app_of(handler(), handler("/own", option={"verifier": own}), plugin=plugin)
    ):
        assert (shared.closed, own.closed) == (0, 0)
    assert (shared.closed, own.closed) == (1, 1)


def test_a_route_that_no_rule_can_express_stops_the_start_up():
    with pytest.raises(ExceptionGroup) as info, TestClient(app_of(handler("/a;b"))):
        pass
    problem = r"unmarked.* is marked: rule 'POST /a;b' can"
    assert info.group_contains(ConfigurationError, match=problem)


# -- errors ------


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (None, "write True, False or a dict"),
        ("observe", "write True, False or a dict of arguments of Rule"),
        (1, "write True, False or a dict"),
        (["POST"], "write True, False or a dict"),
        ({"mod": "observe"}, "Rule does not have a setting 'mod': did you mean mode?"),
        ({"mode": "watch"}, "mode is 'watch'"),
        ({"methods": ["FETCH"]}, "FETCH"),
        ({"verifier": 7}, "verifier"),
    ],
)
def test_a_wrong_option_is_an_error_with_the_handler_and_the_value(option, problem):
    with pytest.raises(ConfigurationError) as info:
        app_of(handler(option=option))
    text = str(info.value)
    assert text.startswith(f'{__name__}.unmarked has opt={{"tcaptcha": {option!r}}}: ')
    assert problem in text


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ((), {}),
        ((), {"rules": ["POST /login"]}),
        ((FakeVerifier(),), {}),
        ((Guard(["/"], FakeVerifier()),), {"verifier": FakeVerifier()}),
        ((Guard(["/"], FakeVerifier()),), {"rules": ["POST /login"]}),
        ((Guard(["/"], FakeVerifier()),), {"mode": "observe"}),
    ],
)
def test_the_plugin_takes_a_guard_or_a_verifier_with_settings(arguments, settings):
    with pytest.raises(ConfigurationError, match=r"write TCaptchaPlugin\(verifier=…, rules="):
        TCaptchaPlugin(*arguments, **settings)


def test_the_verifier_has_to_be_async_and_settings_are_validated_at_once():
    class Sync:
        verify = FakeVerifier.verify

    with pytest.raises(ConfigurationError, match="Sync has no averify"):
        TCaptchaPlugin(verifier=Sync())
    with pytest.raises(ConfigurationError, match="percent is 101"):
        TCaptchaPlugin(verifier=FakeVerifier(), rules=[Rule("/", percent=101)])


# -- the documentation ------

PAGE = (Path(__file__).parents[2] / "docs/integrations.md").read_text()


def test_the_documented_application_needs_tickets_where_it_says(monkeypatch):
    monkeypatch.setattr(TencentVerifier, "from_env", FakeVerifier)
    (code,) = re.findall(
        r"^## Litestar$.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL
    )
    module = ModuleType("shop")
    monkeypatch.setitem(sys.modules, "shop", module)  # where Litestar looks for annotations
    exec(code, vars(module))
    assert posted(module.app, "/login") == (403, '{"code":1}')
    assert posted(module.app, "/comments") == (403, "Thanks.")
    assert TestClient(module.app).get("/comments").text == "No comments."
