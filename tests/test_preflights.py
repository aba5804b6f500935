"""Which requests pass as CORS preflights: the same ones under ASGI and WSGI."""

from __future__ import annotations

import io

import pytest
from adapters import Exchange
from raw_requests import ADAPTERS, through_asgi, through_wsgi

from tcaptcha_middleware import Allow, Guard, Refuse, RequestInfo, Rule, Unchecked
from tcaptcha_middleware.effects import ReadBody
from tcaptcha_middleware.flow import decide
from tcaptcha_middleware.rules import AmbiguousTarget
from tcaptcha_middleware.testing import FakeVerifier

CORS = (("Origin", "https://a.example"), ("Access-Control-Request-Method", "POST"))
PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
every_adapter = pytest.mark.parametrize("send", ADAPTERS.values(), ids=ADAPTERS)


def single(login="/login"):
    return Guard([login], FakeVerifier())


def several(login="/login"):
    return Guard([Rule("UNSAFE /comments", verifier=FakeVerifier()), login], FakeVerifier())


# A guard, a path that it protects, and how it refuses a request without a ticket.
TARGETS = {
    "one rule": (single, "/login", "ticket_missing"),
    "several rules": (several, "//comments;/login", "target_ambiguous"),
}
every_target = pytest.mark.parametrize(
    ("guard", "path", "refusal"), TARGETS.values(), ids=TARGETS
)


def test_the_second_target_is_judged_by_several_rules():
    match = several().match("OPTIONS", TARGETS["several rules"][1])
    assert isinstance(match, AmbiguousTarget)


def preflight(path, *headers, query=""):
    return Exchange("OPTIONS", path + (query and f"?{query}"), (*CORS, *headers))


PREFLIGHTS = {
    "as browsers send it": (),
    "with the headers that will follow": (
        ("Access-Control-Request-Headers", "authorization, cookie, x-captcha-ticket"),
    ),
    "with a length of zero": (("Content-Length", "0"),),
    "with an empty length": (("Content-Length", ""),),
}


@every_adapter
@every_target
@pytest.mark.parametrize("headers", PREFLIGHTS.values(), ids=PREFLIGHTS)
def test_a_preflight_passes_unchecked(send, guard, path, refusal, headers):
    for method in ("OPTIONS", "options"):
        gate = guard()
        result = send(gate, Exchange(method, path, (*CORS, *headers)))
        assert result.decision.unchecked is Unchecked.PREFLIGHT
        assert gate.verifier.tickets == []


@every_adapter
@every_target
def test_a_query_without_a_method_makes_no_difference(send, guard, path, refusal):
    result = send(guard(), preflight(path, query="method=POST&next=/login"))
    assert result.decision.unchecked is Unchecked.PREFLIGHT


NOT_PREFLIGHTS = {
    "a cookie": (("Cookie", "session=1"),),
    "credentials": (("Authorization", "Basic YTpi"),),
    "chunks": (("Transfer-Encoding", "chunked"),),
    "a length": (("Content-Length", "2"),),
    "a length that is not a number": (("Content-Length", "-0"),),
    "X-HTTP-Method": (("X-HTTP-Method", "POST"),),
    "X-HTTP-Method-Override": (("X-HTTP-Method-Override", "POST"),),
    "X-Method-Override": (("X-Method-Override", "POST"),),
    "an override with underscores": (("X_HTTP_METHOD_OVERRIDE", "POST"),),
}
QUERIES = ["_method=POST", "x=1&_METHOD=post", "%5Fmethod=POST", "_%6dethod=POST"]
QUERIES += ["X-HTTP-Method-Override=PUT", "x-http%2dmethod=PUT"]


@every_adapter
@every_target
@pytest.mark.parametrize("headers", NOT_PREFLIGHTS.values(), ids=NOT_PREFLIGHTS)
def test_credentials_a_body_or_another_method_disqualify_a_preflight(
    send, guard, path, refusal, headers
):
    assert send(guard(), preflight(path, *headers)).code == refusal


@every_adapter
@every_target
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_names_a_method_disqualifies_a_preflight(
    send, guard, path, refusal, query
):
    assert send(guard(), preflight(path, query=query)).code == refusal


@every_adapter
@every_target
@pytest.mark.parametrize(
    "headers",
    [CORS[:1], CORS[1:], (("Origin", ""), CORS[1]), (CORS[0], (CORS[1][0], ""))],
    ids=["no method", "no origin", "an empty origin", "an empty method"],
)
def test_a_preflight_has_an_origin_and_a_method(send, guard, path, refusal, headers):
    assert send(guard(), Exchange("OPTIONS", path, headers)).code == refusal


BODIES = {
    "bytes": {"type": "http.request", "body": b"x", "more_body": False},
    "bytes and more": {"type": "http.request", "body": b"x", "more_body": True},
    "more": {"type": "http.request", "body": b"", "more_body": True},
    "more, and no body yet": {"type": "http.request", "more_body": True},
}
EMPTY = {
    "an empty body": {"type": "http.request", "body": b"", "more_body": False},
    "defaults": {"type": "http.request"},
}


@every_target
@pytest.mark.parametrize("message", BODIES.values(), ids=BODIES)
def test_a_first_message_with_bytes_or_more_disqualifies_a_preflight(
    guard, path, refusal, message
):
    assert through_asgi(guard(), preflight(path), messages=[message]).code == refusal


@every_target
@pytest.mark.parametrize("message", EMPTY.values(), ids=EMPTY)
def test_the_first_message_of_a_preflight_reaches_the_application(
    guard, path, refusal, message
):
    result = through_asgi(guard(), preflight(path), messages=[message])
    assert result.decision.unchecked is Unchecked.PREFLIGHT
    assert result.received == [message]


@every_target
def test_under_wsgi_bytes_without_a_length_disqualify_a_preflight(guard, path, refusal):
    more = {"wsgi.input": io.BytesIO(b"x"), "wsgi.input_terminated": True}
    assert through_wsgi(guard(), preflight(path), more=more).code == refusal
    more = {"wsgi.input": io.BytesIO(), "wsgi.input_terminated": True}
    result = through_wsgi(guard(), preflight(path), more=more)
    assert result.decision.unchecked is Unchecked.PREFLIGHT


@every_target
def test_a_preflight_that_does_not_end_is_a_malformed_request(guard, path, refusal, caplog):
    caplog.set_level("INFO")
    rule = guard().match("OPTIONS", path)
    flow = decide(rule, RequestInfo("http", "OPTIONS", path, headers=_raw(CORS)))
    assert isinstance(next(flow), ReadBody)
    with pytest.raises(StopIteration) as stop:
        flow.throw(TimeoutError())
    assert isinstance(stop.value.value, Refuse)
    assert stop.value.value.reason == "request_malformed"
    assert [record.levelname for record in caplog.records] == ["INFO"]


def _raw(headers):
    return [(name.lower().encode(), value.encode()) for name, value in headers]


@every_adapter
@every_target
@pytest.mark.parametrize("rule", ["OPTIONS /login", "POST,OPTIONS /login"])
def test_a_rule_that_names_options_judges_preflights(send, guard, path, refusal, rule):
    assert send(guard(rule), preflight(path)).code == refusal


@every_adapter
def test_a_ticket_with_a_preflight_is_verified_by_a_rule_that_names_options(send):
    gate = single("OPTIONS /login")
    result = send(gate, preflight("/login", *PAIR))
    assert isinstance(result.decision, Allow)
    assert result.decision.unchecked is None
    assert len(gate.verifier.tickets) == 1


@every_adapter
@pytest.mark.parametrize("pieces", [1, 2], ids=["one piece", "two pieces"])
def test_the_body_that_disqualifies_a_preflight_is_searched_for_the_ticket(send, pieces):
    body = b"ticket=tr03good&randstr=%40r"
    cut = len(body) if pieces == 1 else 5
    headers = (*CORS, ("Content-Type", "application/x-www-form-urlencoded"))
    exchange = Exchange("OPTIONS", "/login", headers, (body[:cut], body[cut:])[:pieces])
    result = send(Guard(["/login"], FakeVerifier()), exchange)
    assert (result.code, result.decision.verdict.passed) == ("reached", True)
