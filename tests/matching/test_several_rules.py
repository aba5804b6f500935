"""Targets that touch several rules, through both adapters: none is judged by a weaker rule."""

from __future__ import annotations

import asyncio

import pytest
from adapters import Exchange, environ_of, scope_of

from tcaptcha_middleware import (
    Guard,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TrustedProxies,
    get_decision,
    sources,
)
from tcaptcha_middleware.testing import FakeVerifier

PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
PREFLIGHT = (("Origin", "https://a"), ("Access-Control-Request-Method", "POST"))


def no(request):
    return False


WEAKER = {
    "mode": {"mode": "observe"},
    "percent": {"percent": 0},
    "when": {"when": no},
    "on_unavailable": {"on_unavailable": "allow"},
    "disaster_tickets": {"disaster_tickets": "allow"},
}
OTHER = {
    "verifier": {"verifier": FakeVerifier()},
    "sources": {"sources": [sources.Query()]},
    "client_ip": {"client_ip": TrustedProxies(["10.0.0.0/8"])},
    "fallback_ip": {"fallback_ip": "10.0.0.9"},
}
TARGETS = {
    "2,100 slashes": "/" * 2100 + "login",
    "a host with parameters": "http://comments;x/login",
    "a host without a scheme": "//comments;/login",
}


class Sent:
    """What an adapter made of one request: its status, and what the application saw."""

    def __init__(self):
        self.status = 0
        self.reached = False
        self.decision = None


def through_asgi(guard, path, *, method="POST", headers=(), kind="http", **more):
    sent = Sent()

    async def app(scope, receive, send):
        sent.reached, sent.decision = True, get_decision(scope)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.status = message.get("status", sent.status) or message.get("code")

    scope = scope_of(Exchange(method, "/", headers), kind) | {"path": path, "raw_path": b""}
    asyncio.run(TCaptchaMiddleware(app, guard)(scope | more, receive, send))
    return sent


def through_websocket(guard, path, **more):
    return through_asgi(guard, path, kind="websocket", **more)


def through_wsgi(guard, path, *, method="POST", headers=(), raw_path=b""):
    sent = Sent()

    def app(environ, start_response):
        sent.reached, sent.decision = True, get_decision(environ)
        return []

    def start_response(line, headers):
        sent.status = int(line[:3])

    environ = environ_of(Exchange(method, "/", headers)) | {"PATH_INFO": path}
    TCaptchaWSGIMiddleware(app, guard)(environ, start_response)
    return sent


ADAPTERS = {"asgi": through_asgi, "wsgi": through_wsgi}
every_adapter = pytest.mark.parametrize("send", ADAPTERS.values(), ids=ADAPTERS)
every_target = pytest.mark.parametrize("path", TARGETS.values(), ids=TARGETS)
with_raw_path = pytest.mark.parametrize("query", [b"", b"?x=" + b"y" * 5000], ids=["", "query"])


@every_adapter
@every_target
@pytest.mark.parametrize("weak", [*WEAKER.values(), *OTHER.values()], ids=[*WEAKER, *OTHER])
def test_no_target_reaches_a_handler_through_a_weaker_rule(send, path, weak):
    guard = Guard([Rule("POST /comments", **weak), "POST /login"], FakeVerifier())
    assert not send(guard, path).reached
    assert not send(guard, path, method="post").reached


@every_target
@with_raw_path
@pytest.mark.parametrize("weak", [*WEAKER.values(), *OTHER.values()], ids=[*WEAKER, *OTHER])
def test_no_raw_path_reaches_a_handler_through_a_weaker_rule(path, query, weak):
    guard = Guard([Rule("POST /comments", **weak), "POST /login"], FakeVerifier())
    raw_path = path.encode() + query
    assert not through_asgi(guard, path, raw_path=raw_path).reached
    assert not through_asgi(guard, "/comments", raw_path=raw_path).reached


@pytest.mark.parametrize("path", ["/" * 2100 + "socket", "http://comments;x/socket"])
def test_no_websocket_reaches_a_handler_through_a_weaker_rule(path):
    guard = Guard([Rule("GET /comments", mode="observe"), "GET /socket"], FakeVerifier())
    sent = through_websocket(guard, path, method="GET")
    assert (sent.reached, sent.status) == (False, 1008)


@every_adapter
@pytest.mark.parametrize("weak", WEAKER.values(), ids=WEAKER)
def test_the_stricter_rule_judges_if_it_suffices(send, weak):
    guard = Guard([Rule("POST /comments", **weak), "POST /login"], FakeVerifier())
    assert send(guard, "//comments;/login").status == 403
    sent = send(guard, "//comments;/login", headers=PAIR)
    assert (sent.reached, sent.decision.rule) == (True, "POST /login")


@every_adapter
@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_if_no_rule_suffices_the_request_is_refused_even_with_a_ticket(send, other):
    events = []
    rules = [Rule("POST /comments", name="first", **other), "POST /login"]
    guard = Guard(rules, FakeVerifier(), on_event=events.append)
    assert send(guard, "//comments;/login", headers=PAIR).status == 400
    assert [(event.rule, event.reason) for event in events] == [("first", "target_ambiguous")]


@every_adapter
def test_an_ambiguous_target_passes_while_the_kill_switch_is_off(send):
    guard = Guard([Rule("POST /comments", **OTHER["verifier"]), "POST /login"], FakeVerifier())
    guard.switch.off("a test")
    sent = send(guard, "//comments;/login")
    assert (sent.reached, sent.decision.unchecked) == (True, "switched_off")
    guard.switch.on()
    assert send(guard, "//comments;/login").status == 400


@every_adapter
def test_a_preflight_for_an_ambiguous_target_passes_if_all_rules_let_it(send):
    other = OTHER["verifier"]
    guard = Guard([Rule("UNSAFE /comments", **other), "/login"], FakeVerifier())
    sent = send(guard, "//comments;/login", method="OPTIONS", headers=PREFLIGHT)
    assert (sent.reached, sent.decision.unchecked) == (True, "preflight")
    assert send(guard, "//comments;/login", method="OPTIONS").status == 400
    guard = Guard([Rule("OPTIONS /comments", **other), "/login"], FakeVerifier())
    assert send(guard, "//comments;/login", method="OPTIONS", headers=PREFLIGHT).status == 400


@every_adapter
def test_an_ambiguous_target_is_reported_if_no_rule_enforces(send, caplog):
    rules = [Rule("POST /a", percent=1, **OTHER["verifier"]), Rule("POST /b", percent=1)]
    guard = Guard(rules, FakeVerifier(), client_ip=lambda _: "203.0.113.7")
    sent = send(guard, "//a;/b")
    assert (sent.reached, sent.decision.unchecked) == (True, "observed")
    assert sent.decision.refused == "target_ambiguous"
    assert caplog.messages == ["POST /a: would be refused: target_ambiguous"]


@every_adapter
def test_a_responder_answers_ambiguous_targets_too(send):
    def responder(request, refuse):
        refused.append(refuse.reason)
        raise RuntimeError

    refused = []
    rules = [Rule("POST /a", responder=responder, **OTHER["verifier"]), "POST /b"]
    assert send(Guard(rules, FakeVerifier()), "//a;/b").status == 400
    assert refused == ["target_ambiguous"]


@every_adapter
@pytest.mark.parametrize("method", ["PUT", "PROPFIND", "FOO", "OPTIONS"])
def test_an_unsafe_rule_protects_views_that_answer_every_method(send, method):
    guard = Guard(["UNSAFE /login"], FakeVerifier())
    assert send(guard, "/login", method=method).status == 403
    assert send(guard, "/login", method="GET").reached
    sent = send(guard, "/login", method="OPTIONS", headers=PREFLIGHT)
    assert (sent.reached, sent.decision.unchecked) == (True, "preflight")


@every_adapter
def test_a_doubled_slash_in_the_target_needs_the_strict_rules_ticket(send):
    # A base URL that ends with a slash, and a path that begins with one.
    guard = Guard(["POST /api/v1/otp", Rule("/**", mode="observe")], FakeVerifier())
    assert send(guard, "//api/v1/otp").status == 403
    assert send(guard, "//api/v1/otp", headers=PAIR).reached
    assert send(guard, "//api/v1/other").reached
