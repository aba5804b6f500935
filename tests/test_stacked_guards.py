"""Several guards around one application, and decisions that no guard made."""

from __future__ import annotations

import copy

import pytest
from adapters import Exchange
from litestar import Litestar, Router, post
from litestar.middleware import DefineMiddleware
from litestar.testing import TestClient
from raw_requests import ADAPTERS, through_asgi

from tcaptcha_middleware import (
    CaptchaRequired,
    Guard,
    PlainResponse,
    Refuse,
    Rule,
    TCaptchaMiddleware,
    Unchecked,
    Verdict,
    require_captcha,
)
from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.testing import FakeVerifier

PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
CORS = (("Origin", "https://a.example"), ("Access-Control-Request-Method", "POST"))
WITH, WITHOUT = Exchange(headers=PAIR), Exchange()
every_adapter = pytest.mark.parametrize("send", ADAPTERS.values(), ids=ADAPTERS)


# -- An outer decision ------


@every_adapter
def test_the_same_guard_twice_verifies_once(send):
    events = []
    guard = Guard(["/login"], FakeVerifier(1, 9), on_event=events.append)
    result = send([guard, guard], WITH)
    assert result.decision.verdict.passed
    assert (len(guard.verifier.tickets), len(events)) == (1, 1)


OVERRIDES = {
    "another method": Exchange("PUT", "/shop/a", PAIR),
    "another path": Exchange("POST", "/shop/b", PAIR),
    "another spelling of the path": Exchange("POST", "/shop//a", PAIR),
}


@every_adapter
@pytest.mark.parametrize("between", OVERRIDES.values(), ids=OVERRIDES)
def test_an_outer_decision_counts_for_the_same_method_and_path_only(send, between):
    guard = Guard(["/shop/**"], FakeVerifier())
    exchange = Exchange(target="/shop/a", headers=PAIR)
    assert send([guard, guard], exchange, between=exchange).code == "reached"
    guard = Guard(["/shop/**"], FakeVerifier())
    assert send([guard, guard], exchange, between=between).code == "ticket_reused"


@every_adapter
def test_an_outer_decision_counts_for_the_same_rule_only(send):
    # Two guards, whose rules have the same text.
    outer, inner = (Guard(["/login"], FakeVerifier(code)) for code in (1, 9))
    assert send([outer, inner], WITH).code == "ticket_reused"
    assert len(inner.verifier.tickets) == 1


@every_adapter
def test_an_outer_decision_without_a_ticket_requirement_does_not_count(send):
    # A middleware between the guards adds what `when` reads, such as the user.
    rule = Rule("/login", when=lambda request: request.header("X-Member") == ["no"])
    guard = Guard([rule], FakeVerifier())
    member, visitor = (Exchange(headers=(("X-Member", value),)) for value in ("yes", "no"))
    assert send([guard, guard], member, between=visitor).code == "ticket_missing"
    assert send([guard, guard], member, between=member).code == "reached"


@every_adapter
def test_a_decision_of_any_outer_guard_counts(send):
    events = []
    guard = Guard(["/login"], FakeVerifier(), on_event=events.append)
    other = Guard([Rule("/login", mode="observe")], FakeVerifier(9))
    assert send([guard, other, guard], WITH).code == "reached"
    assert len(events) == 1


@every_adapter
def test_an_outer_preflight_does_not_count_for_the_same_request(send):
    guard = Guard(["/login"], FakeVerifier())
    preflight = Exchange("OPTIONS", "/login", CORS)
    assert send([guard, guard], preflight).decision.unchecked is Unchecked.PREFLIGHT
    # A middleware between the two adds a cookie, as it could a body.
    between = Exchange("OPTIONS", "/login", (*CORS, ("Cookie", "session=1")))
    assert send([guard, guard], preflight, between=between).code == "ticket_missing"


@every_adapter
def test_an_outer_preflight_does_not_count_behind_a_method_override(send):
    guard = Guard(["/login"], FakeVerifier())
    preflight = Exchange("OPTIONS", "/login", CORS)
    assert send([guard, guard], preflight, between=WITHOUT).code == "ticket_missing"


@every_adapter
def test_different_guards_each_decide_and_a_handler_sees_every_decision(send):
    rules = [Rule("/login", name="outer"), Rule("/login", name="inner")]
    guards = [Guard([rule], FakeVerifier(Verdict(1, score=n))) for n, rule in enumerate(rules)]
    result = send(guards, WITH)
    assert [len(guard.verifier.tickets) for guard in guards] == [1, 1]
    assert (result.decision.rule, result.decision.verdict.score) == ("inner", 1)
    assert require_captcha(result.seen, "inner", strict=True).verdict.score == 1
    assert require_captcha(result.seen, "outer", strict=True).verdict.score == 0
    with pytest.raises(CaptchaRequired):
        require_captcha(result.seen, "another")


@every_adapter
def test_an_inner_guard_without_a_matching_rule_keeps_the_outer_decision(send):
    guards = [Guard(["/login"], FakeVerifier()), Guard(["/other"], FakeVerifier())]
    assert send(guards, WITH).decision.rule == "/login"


# -- Forged decisions ------


class LooksAllowed:
    """Has the attributes of an `Allow`, but is another type."""

    rule = "/login"
    verdict = Verdict(1)
    unchecked = refused = outer = None
    target = ("/login", "POST", "/login")


FORGED = ["Allow", "", 0, False, True, {"verdict": 1}, [], Refuse(Reason.OVERLOADED, "/login")]
FORGED += [Verdict(1), LooksAllowed(), LooksAllowed]
every_forgery = pytest.mark.parametrize("forged", FORGED, ids=lambda f: ascii(f)[:20])
KEYS = {"asgi": "tcaptcha", "wsgi": "tcaptcha.decision"}
every_key = pytest.mark.parametrize(
    ("send", "key"), [(ADAPTERS[name], KEYS[name]) for name in ADAPTERS], ids=ADAPTERS
)


@every_key
@every_forgery
@pytest.mark.parametrize(("method", "path"), [("POST", "/free"), ("GET", "/login")])
def test_a_forged_decision_is_removed_on_ungated_requests(send, key, forged, method, path):
    guard = Guard(["POST /login"], FakeVerifier())
    result = send(guard, Exchange(method, path), more={key: forged})
    assert key not in result.seen
    assert key not in result.holder


@every_key
@every_forgery
def test_a_forged_decision_is_replaced_when_a_request_passes(send, key, forged):
    seen = []

    def when(request):
        seen.append(key in request.raw)
        return True

    result = send(
        Guard(["/login"], FakeVerifier(), when=when), Exchange(headers=PAIR), more={key: forged}
    )
    assert result.seen[key].verdict.passed
    assert result.seen[key].outer is None
    assert seen == [False]


@every_key
@every_forgery
def test_a_forged_decision_has_no_effect_and_no_responder_sees_it(send, key, forged):
    seen = []

    def responder(request, refuse):
        seen.append(key in request.raw)
        return PlainResponse(418, [], b'{"code": "a responder"}')

    guard = Guard(["/login"], FakeVerifier(), responder=responder)
    result = send(guard, WITHOUT, more={key: forged})
    assert (result.code, result.status) == ("a responder", 418)
    assert seen == [False]
    assert key not in result.holder


@every_key
@every_forgery
def test_a_forged_decision_is_removed_on_the_pages_paths(send, key, forged):
    guard = Guard(["POST /login"], FakeVerifier(), page="/captcha")
    result = send(guard, Exchange("GET", "/captcha/tcaptcha.js"), more={key: forged})
    assert (result.seen, result.status) == (None, 200)
    assert key not in result.holder


@every_forgery
@pytest.mark.parametrize("path", ["/free", "/login"])
def test_a_forged_decision_is_removed_from_a_handshake(forged, path):
    guard = Guard(["GET /login"], FakeVerifier())
    more = {"tcaptcha": forged}
    result = through_asgi(guard, Exchange("GET", path), kind="websocket", more=more)
    assert (result.seen is None) == (path == "/login")
    assert "tcaptcha" not in result.holder


# -- Copies ------


def test_copying_a_guard_returns_the_same_guard():
    guard = Guard(["/login"], FakeVerifier())
    assert copy.deepcopy(guard) is guard
    assert copy.deepcopy({"guard": [guard]})["guard"][0] is guard


def test_a_litestar_router_shares_the_state_of_its_guard():
    guard = Guard(["POST /login"], FakeVerifier())

    @post("/login", status_code=200)
    async def login() -> str:
        return "in"

    router = Router(
        "/",
        route_handlers=[login],
        middleware=[DefineMiddleware(TCaptchaMiddleware, guard=guard)],
    )
    headers = dict(PAIR)
    for _ in range(2):  # a router is copied for each application
        with TestClient(Litestar([router], logging_config=None)) as client:
            client.post("/login", headers=headers)
    assert len(guard.verifier.tickets) == 1
