"""FastAPI handlers that are marked with `Solved`, and Starlette's with `required`."""

from __future__ import annotations

import logging
import threading
import time
from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, WebSocket  # noqa: TC002  FastAPI reads the annotations
from fastapi.testclient import TestClient
from fresh_pairs import pair
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import WebSocketDenialResponse

from tcaptcha_middleware import (
    Allow,
    ConfigurationError,
    Guard,
    MemoryReplayStore,
    Rule,
    Switch,
    TCaptchaMiddleware,
    Unchecked,
)
from tcaptcha_middleware.integrations import marked_guard, openapi
from tcaptcha_middleware.integrations.fastapi import (
    Solved,  # noqa: TC001  FastAPI reads the annotations
    protect,
    solved,
)
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.integrations.starlette import protect as protect_starlette
from tcaptcha_middleware.integrations.starlette import required
from tcaptcha_middleware.testing import FakeVerifier


def client_of(app):
    return TestClient(app, raise_server_exceptions=False)


def posted(app, path, **more):
    """Return the status without a ticket, and the answer with one."""
    client = client_of(app)
    bare, answer = client.post(path, **more), client.post(path, headers=pair(), **more)
    return bare.status_code, answer.json() if answer.is_success else answer.status_code


def rule_of(captcha: Solved) -> str:
    return captcha.rule


Observed = Annotated[Allow, Depends(solved(mode="observe"))]
NameOfRule = Annotated[str, Depends(rule_of)]


def deep(name: NameOfRule):
    return name


def protected(**settings):
    app = FastAPI(openapi_url=None)
    protect(app, FakeVerifier(), **settings)
    return app


# -- FastAPI ------


def test_a_handler_with_the_parameter_runs_only_with_a_ticket():
    app = protected()

    @app.post("/login")
    def login(captcha: Solved, user: Annotated[str, Form()]):
        assert isinstance(captcha, Allow)
        return [user, captcha.rule]

    assert posted(app, "/login", data={"user": "Ada"}) == (403, ["Ada", "POST /login"])


def test_a_handler_may_have_settings_of_its_own():
    app = protected()

    @app.post("/login")
    def login(captcha: Observed):
        return captcha.unchecked

    assert posted(app, "/login") == (200, None)
    assert client_of(app).post("/login").json() == Unchecked.OBSERVED


def test_a_router_and_a_dependency_of_a_dependency_mark_their_handlers():
    inner = APIRouter(prefix="/inner")
    inner.post("/login")(lambda: "in")
    router = APIRouter(prefix="/users", dependencies=[Depends(solved())])
    router.include_router(inner)
    app = protected()
    app.include_router(router)
    app.post("/deep")(deep)
    assert posted(app, "/users/inner/login") == (403, "in")
    assert posted(app, "/deep") == (403, "POST /deep")


def test_one_function_may_be_marked_at_one_path_alone():
    router = APIRouter()
    router.post("/login")(lambda: "in")
    app = protected()
    app.include_router(router, prefix="/public", dependencies=[Depends(solved())])
    app.include_router(router, prefix="/internal")
    assert posted(app, "/public/login") == (403, "in")
    assert posted(app, "/internal/login") == (200, "in")


def test_a_path_converter_covers_everything_below():
    app = protected()
    app.post("/files/{name:path}")(rule_of)
    assert posted(app, "/files/a/b") == (403, "POST /files/**")


def test_the_handlers_of_a_mounted_application_are_marked_too():
    mounted = FastAPI(openapi_url=None)
    mounted.post("/login")(rule_of)
    app = protected()
    app.mount("/mount", mounted)
    assert posted(app, "/mount/login") == (403, "POST /mount/login")


def test_a_mounted_application_may_have_a_gate_of_its_own():
    mounted = protected()
    mounted.post("/login")(rule_of)
    app = protected()
    app.mount("/mount", mounted)
    app.post("/login")(rule_of)
    assert posted(app, "/mount/login") == (403, "POST /login")
    assert [rule.text for rule in app.user_middleware[0].kwargs["guard"].rules] == [
        "POST /login"
    ]


def test_an_application_behind_a_root_path_is_gated():
    app = protected()
    app.post("/login")(rule_of)
    client = TestClient(app, root_path="/api", raise_server_exceptions=False)
    assert client.post("/api/login").status_code == 403
    assert client.post("/api/login", headers=pair()).json() == "POST /login"


def test_the_handshake_of_a_marked_websocket_needs_a_ticket():
    app = protected()

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, captcha: Solved):
        await websocket.accept()
        await websocket.send_text(captcha.rule)

    with client_of(app).websocket_connect("/socket", headers=pair()) as websocket:
        assert websocket.receive_text() == "GET /socket"
    with pytest.raises(WebSocketDenialResponse), client_of(app).websocket_connect("/socket"):
        pass


def test_the_guard_has_what_pages_need():
    app = FastAPI(openapi_url=None)
    guard = protect(app, FakeVerifier(), page="/tcaptcha")
    app.post("/login")(rule_of)
    assert client_of(app).get("/tcaptcha/tcaptcha.js").is_success
    assert guard.health == {"POST /login": "up"}
    with pytest.raises(AttributeError):
        _ = guard.no_such_name
    with pytest.raises(AttributeError):
        _ = guard._no_such_name


def test_openapi_documents_describe_the_captcha_of_marked_handlers(caplog):
    app = FastAPI()
    openapi.install(app, protect(app, FakeVerifier()))
    app.post("/login")(rule_of)
    operation = app.openapi()["paths"]["/login"]["post"]
    assert operation["x-tcaptcha"]["rule"] == "POST /login"
    assert caplog.text == ""


class Closing(FakeVerifier):
    closed = 0

    async def aclose(self):
        self.closed += 1


def test_the_guard_is_closed_with_the_application():
    app, verifier = FastAPI(), Closing()
    protect(app, verifier)
    with client_of(app):
        app.post("/login")(rule_of)
        assert verifier.closed == 0
    assert verifier.closed == 1


def test_the_guard_is_closed_even_if_a_route_cannot_be_expressed():
    app, verifier = FastAPI(), Closing()
    protect(app, verifier)
    with client_of(app):
        app.post("/a;b")(rule_of)
    assert verifier.closed == 1


def test_covers_reports_a_rule_once():
    app = FastAPI(openapi_url=None)
    guard = protect(app, FakeVerifier(), ["POST /nowhere"])
    app.post("/login")(rule_of)
    assert [str(f) for f in guard.covers(app)] == [str(f) for f in check(app)]


def test_a_fastapi_application_may_be_mounted_in_one_of_starlette_that_is_protected():
    mounted = FastAPI(openapi_url=None)
    mounted.post("/login")(rule_of)
    app = Starlette(routes=[Mount("/mount", mounted)])
    protect_starlette(app, FakeVerifier())
    assert posted(app, "/mount/login") == (403, "POST /mount/login")


# -- new routes ------


@pytest.mark.parametrize("page", [None, "/tcaptcha"], ids=["no page", "a page"])
def test_a_new_route_does_not_renew_what_the_gate_lets_through_unchecked(page):
    app = FastAPI(openapi_url=None)
    guard = protect(app, FakeVerifier(), allow_per_minute=1, page=page)
    app.post("/login")(rule_of)
    guard.refresh()
    [first] = guard.guard._rules
    assert first.spend_budget("a test")
    app.post("/late")(rule_of)
    guard.refresh()
    by_name = {rule.name: rule for rule in guard.guard._rules}
    login, late = by_name["POST /login"], by_name["POST /late"]
    assert not login.spend_budget("a test")
    assert late.spend_budget("a test")
    assert login.shared is late.shared is first.shared
    assert login.disaster_seen is first.disaster_seen
    assert login.disaster_per_ip is first.disaster_per_ip


def test_a_route_that_an_included_router_adds_later_is_locked_and_then_gated(monkeypatch):
    router, app = APIRouter(), protected()
    app.include_router(router)
    app.post("/login")(rule_of)
    assert posted(app, "/login") == (403, "POST /login")
    router.post("/late")(rule_of)
    # The routes have just been read, and are not read again at once.
    assert [client_of(app).post("/late").status_code for _ in "ab"] == [500, 500]
    clock = time.monotonic() + 2
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    assert client_of(app).post("/late").status_code == 500  # this one is noticed
    assert posted(app, "/late") == (403, "POST /late")


def test_successive_guards_share_replay_store_switch_and_health():
    app = FastAPI(openapi_url=None)
    guard = protect(app, FakeVerifier())
    first = guard.guard
    used = pair()
    app.post("/login")(rule_of)
    assert client_of(app).post("/login", headers=used).is_success
    second = guard.guard
    app.post("/late")(rule_of)
    assert client_of(app).post("/late", headers=used).status_code == 403
    third = guard.guard
    assert len({id(each) for each in (first, second, third)}) == 3
    assert first.replay_store is second.replay_store is third.replay_store
    assert first.switch is second.switch is third.switch
    assert (
        len({id(rule.health) for each in (first, second, third) for rule in each._rules}) == 1
    )
    first.switch.off("a test")
    assert client_of(app).post("/late").is_success


def test_concurrent_first_requests_read_the_routes_once(monkeypatch):
    readings, waiting = [], threading.Barrier(4)

    def read(app, find):
        readings.append(app)
        time.sleep(0.05)
        return [Rule("POST /login")]

    def first_request():
        waiting.wait()
        guard.refresh()

    monkeypatch.setattr(marked_guard, "marked_rules", read)
    app = FastAPI()
    guard = protect(app, FakeVerifier())
    threads = [threading.Thread(target=first_request) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert readings == [app]


def test_changes_of_the_health_are_reported_for_the_current_rules():
    events = []
    app, verifier = FastAPI(openapi_url=None), FakeVerifier()
    protect(app, verifier, on_event=events.append)
    app.post("/login")(rule_of)
    verifier.is_up = False
    assert posted(app, "/login") == (403, 503)
    changes = [(event.rule, event.reason) for event in events if event.outcome == "health"]
    assert changes[0] == ("POST /login", "suspect")


def test_stores_and_switch_may_be_the_users():
    store, switch = MemoryReplayStore(), Switch()
    app = FastAPI()
    guard = protect(app, FakeVerifier(), replay_store=store, switch=switch)
    assert (guard.guard.replay_store, guard.guard.switch) == (store, switch)


def test_a_guard_without_new_rules_stays():
    app = FastAPI(openapi_url=None)
    guard = protect(app, FakeVerifier())
    app.post("/login")(rule_of)
    guard.refresh()
    first = guard.guard
    app.get("/")(lambda: "home")
    assert guard.is_stale
    guard.refresh()
    assert guard.guard is first


def test_an_application_without_marks_passes_everything_and_is_logged(caplog):
    app = protected()
    app.post("/login")(lambda: "in")
    with caplog.at_level(logging.WARNING, "tcaptcha_middleware"):
        assert posted(app, "/login") == (200, "in")
    assert "no handler is marked, and there are no rules" in caplog.text


def test_an_application_that_is_protected_after_its_routes_is_logged_too(caplog):
    app = FastAPI(openapi_url=None)
    app.post("/login")(lambda: "in")
    protect(app, FakeVerifier())
    client_of(app).post("/login")
    assert "no handler is marked, and there are no rules" in caplog.text


# -- the second lock ------


def inside(app, middleware):
    """Call the application by way of a middleware behind the gate."""
    app.add_middleware(middleware)
    app.user_middleware.append(app.user_middleware.pop(0))
    return app


class Rewriting:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope | {"path": scope["path"].removeprefix("/free")}, receive, send)


def test_a_path_that_is_rewritten_behind_the_gate_is_locked(caplog):
    app = inside(protected(), Rewriting)
    app.post("/login")(rule_of)
    assert posted(app, "/login") == (403, "POST /login")
    assert posted(app, "/free/login") == (500, 500)
    assert "the gate saw another path or method" in caplog.text


def test_a_decision_by_a_weaker_rule_is_locked(caplog):
    app = inside(protected(rules=[Rule("POST /free/login", mode="observe")]), Rewriting)
    app.post("/login")(rule_of)
    assert posted(app, "/free/login") == (500, 500)
    assert "the gate judged by 'POST /free/login', which is not as strict" in caplog.text


def test_a_decision_by_a_rule_that_is_as_strict_opens_the_lock():
    app = inside(protected(rules=["POST /free/login"]), Rewriting)
    app.post("/login")(rule_of)
    assert posted(app, "/free/login") == (403, "POST /free/login")
    weak = inside(protected(rules=["POST /free/login"]), Rewriting)
    weak.post("/login", dependencies=[Depends(solved(mode="observe"))])(lambda: "in")
    assert posted(weak, "/free/login") == (403, "in")


def test_a_decision_of_another_guard_opens_the_lock_if_it_has_the_same_verifier():
    verifier = FakeVerifier()
    app = FastAPI(openapi_url=None)
    protect(app, verifier)
    app.post("/login")(rule_of)
    inside(app, Rewriting)
    same, other = (Guard(["POST /free/login"], v) for v in (verifier, FakeVerifier()))
    assert posted(TCaptchaMiddleware(app, same), "/free/login") == (403, "POST /free/login")
    assert posted(TCaptchaMiddleware(app, other), "/free/login") == (403, 500)


def test_the_outer_of_two_decisions_opens_the_lock():
    verifier = FakeVerifier()
    app = FastAPI(openapi_url=None)
    protect(app, verifier, rules=[Rule("/free/**", mode="observe")])
    app.post("/login")(rule_of)
    outer = TCaptchaMiddleware(inside(app, Rewriting), Guard(["POST /free/login"], verifier))
    assert posted(outer, "/free/login") == (403, "POST /free/login")


class FromOptions:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope | {"method": "POST"}, receive, send)


def test_a_preflight_does_not_open_the_lock():
    app = inside(protected(rules=["/login"]), FromOptions)
    app.post("/login")(rule_of)
    preflight = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    assert client_of(app).options("/login", headers=preflight).status_code == 500
    assert client_of(app).options("/login", headers=pair()).json() == "/login"


def test_the_kill_switch_opens_the_lock_for_every_form_of_the_target():
    app = FastAPI(openapi_url=None)
    guard = protect(app, FakeVerifier(), rules=[Rule("/weak", mode="observe")])
    app.post("/{name:path}")(rule_of)
    guard.switch.off("a test")
    assert posted(app, "/weak;/..;/x/login")[0] == 200


# -- Starlette ------


@required
async def login(request):
    return PlainTextResponse(f'"{request.method}"')


@required(methods=["POST"])
def form(request):
    return PlainTextResponse(f'"{request.method}"')


@required(methods=["UNSAFE"], percent=100)
class Comments(HTTPEndpoint):
    async def get(self, request):
        return PlainTextResponse('"comments"')

    post = get


@required
class Socket(WebSocketEndpoint):
    async def on_connect(self, websocket):
        await websocket.accept()
        await websocket.send_text("hello")


def starlette_app(**settings):
    routes = [
        Route("/login", login, methods=["POST"]),
        Route("/form", form, methods=["GET", "POST"]),
        Route("/comments", Comments),
        WebSocketRoute("/socket", Socket),
    ]
    app = Starlette(routes=[*routes, Mount("/mount", Starlette(routes=routes))])
    protect_starlette(app, FakeVerifier(), **settings)
    return app


@pytest.mark.parametrize("mount", ["", "/mount"])
def test_marked_endpoints_of_starlette_run_only_with_a_ticket(mount):
    app = starlette_app()
    assert posted(app, f"{mount}/login") == (403, "POST")
    assert posted(app, f"{mount}/form") == (403, "POST")
    assert posted(app, f"{mount}/comments") == (403, "comments")
    assert client_of(app).get(f"{mount}/form").json() == "GET"
    assert client_of(app).get(f"{mount}/comments").json() == "comments"


def test_one_function_may_have_two_marks_at_two_paths():
    def view(request):
        return PlainTextResponse('"in"')

    routes = [
        Route("/login", required(view), methods=["POST"]),
        Route("/observed", required(mode="observe")(view), methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    protect_starlette(app, FakeVerifier())
    assert posted(app, "/login") == (403, "in")
    assert posted(app, "/observed") == (200, "in")


def test_a_marked_class_for_websockets_needs_a_ticket():
    app = starlette_app()
    with client_of(app).websocket_connect("/socket", headers=pair()) as websocket:
        assert websocket.receive_text() == "hello"
    with pytest.raises(WebSocketDenialResponse), client_of(app).websocket_connect("/socket"):
        pass


def test_marked_endpoints_of_starlette_are_locked_without_the_gate():
    app = Starlette(routes=starlette_app().routes)
    paths = ("/login", "/form", "/comments")
    assert [posted(app, path) for path in paths] == [(500, 500)] * 3


def test_an_endpoint_of_starlette_in_fastapi_is_found():
    app = protected()
    app.add_route("/login", login, methods=["POST"])
    assert posted(app, "/login") == (403, "POST")


# -- errors ------


def test_a_verifier_is_needed_and_has_to_be_async():
    class Sync:
        verify = FakeVerifier.verify

    with pytest.raises(ConfigurationError, match="verifier is NoneType"):
        protect(FastAPI(), None)
    with pytest.raises(ConfigurationError, match="Sync has no averify"):
        protect(FastAPI(), Sync())


def test_a_wrong_setting_is_an_error_at_once():
    with pytest.raises(ConfigurationError, match="percent is 101"):
        protect(FastAPI(), FakeVerifier(), percent=101)
    with pytest.raises(ConfigurationError, match="rules has to be a list"):
        protect(FastAPI(), FakeVerifier(), rules="POST /login")
    with pytest.raises(ConfigurationError, match="percent is 101"):
        solved(percent=101)


def test_marks_with_different_settings_on_one_route_are_an_error():
    app = protected()
    app.post("/login", dependencies=[Depends(solved(mode="observe"))])(rule_of)
    with pytest.raises(ConfigurationError, match=r"rule_of.* has marks with different"):
        TestClient(app).post("/login")


def test_a_route_that_no_rule_can_express_is_an_error():
    app = protected()
    app.post("/a;b")(rule_of)
    with pytest.raises(ConfigurationError, match=r"rule_of.* is marked: rule 'POST /a;b' can"):
        TestClient(app).post("/")


def test_a_decorator_above_that_of_the_route_is_an_error():
    app = protected()

    @required
    @app.post("/login")
    async def view():
        return "in"

    with pytest.raises(ConfigurationError, match=r"the route /login calls .*view"):
        TestClient(app).post("/login")
