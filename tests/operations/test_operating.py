"""Operating the gate: observing, rolling out, switching off, asking first, telling of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from adapters import RUNNERS, Exchange, by_hand, through_asgi

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    OutageError,
    Reason,
    Rule,
    Switch,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    Unchecked,
)
from tcaptcha_middleware.testing import FakeVerifier

SECRETS = ("tr03secretticket", "@secretrand")
HEAD = tuple(zip(("X-Captcha-Ticket", "X-Captcha-Randstr"), SECRETS, strict=True))
WITH, WITHOUT = Exchange(headers=HEAD), Exchange()


def seen_by(guard, exchange, runner=by_hand):
    """Return the outcome, and the event that told of it."""
    events = []
    outcome = runner(replace(guard, on_event=events.append), exchange)
    (event,) = [event for event in events if event.outcome != "health"]
    return outcome, event


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(
    ("exchange", "verdict", "reason"),
    [
        (WITHOUT, 1, "ticket_missing"),
        (WITH, 7, "ticket_rejected"),
        (WITH, 100, "misconfigured"),
        (Exchange(headers=(("Content-Type", "application/json"),), pieces=(b"{no",)), 1,
         "request_malformed"),
    ],
    ids=["missing", "rejected", "misconfigured", "malformed"],
)  # fmt: skip
def test_observing_reports_and_refuses_nobody(runner, exchange, verdict, reason, caplog):
    guard = Guard(["POST /login"], FakeVerifier(verdict), mode="observe")
    outcome, event = seen_by(guard, exchange, runner)
    assert (outcome.code, outcome.body_seen) == ("allowed", exchange.body)
    assert (event.outcome, event.reason) == ("unchecked", "observed")
    assert event.decision.refused == reason
    assert f"would be refused: {reason}" in caplog.text


def test_observing_marks_nobody_who_passed():
    _, event = seen_by(Guard(["POST /login"], FakeVerifier(), mode="observe"), WITH)
    assert (event.outcome, event.decision.refused) == ("passed", None)


def test_one_rule_may_observe_while_another_enforces():
    guard = Guard([Rule("POST /login", mode="observe"), "POST /other"], FakeVerifier())
    assert by_hand(guard, WITHOUT).code == "allowed"
    assert by_hand(guard, Exchange(target="/other")).code == "ticket_missing"


def enforced(percent: int) -> set[int]:
    guard = Guard(["POST /login"], FakeVerifier(), percent=percent)
    visitors = {n: Exchange(peer=f"203.0.{n // 250}.{n % 250}") for n in range(1000)}
    return {n for n, visitor in visitors.items() if by_hand(guard, visitor).status == 403}


def test_a_percentage_of_visitors_is_enforced_always_the_same_ones():
    assert enforced(0) == set()
    assert len(enforced(100)) == 1000
    assert 50 < len(enforced(10)) < 200
    assert enforced(10) == enforced(10)
    assert enforced(10) < enforced(50)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_the_kill_switch_lets_everyone_through_and_says_so(runner, caplog):
    guard = Guard(["POST /login"], FakeVerifier(7))
    guard.switch.off("incident")
    outcome, event = seen_by(guard, WITHOUT, runner)
    assert outcome.code == "allowed"
    assert event.reason == Unchecked.SWITCHED_OFF
    guard.switch.on()
    assert runner(guard, WITHOUT).code == "ticket_missing"
    assert [r.levelname for r in caplog.records if "switched" in r.message] == ["CRITICAL"] * 2
    assert "incident" in caplog.text


def test_one_switch_may_serve_several_guards():
    switch = Switch()
    guards = [Guard(["POST /login"], FakeVerifier(), switch=switch) for _ in range(2)]
    switch.off("incident")
    assert [by_hand(guard, WITHOUT).code for guard in guards] == ["allowed"] * 2


def from_abroad(request):
    return request.header("X-Country") == ["XX"]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_when_decides_whether_a_request_is_checked(runner):
    guard = Guard([Rule("POST /login", when=from_abroad)], FakeVerifier())
    outcome, event = seen_by(guard, WITHOUT, runner)
    assert (outcome.code, event.reason) == ("allowed", Unchecked.NOT_ASKED)
    abroad = Exchange(headers=(("X-Country", "XX"),))
    assert runner(guard, abroad).code == "ticket_missing"


def test_when_may_be_awaited_under_asgi():
    async def when(request):
        return from_abroad(request)

    guard = Guard(["POST /login"], FakeVerifier(), when=when)
    assert through_asgi(guard, WITHOUT).code == "allowed"
    assert through_asgi(guard, Exchange(headers=(("X-Country", "XX"),))).status == 403
    with pytest.raises(ConfigurationError, match="when is async"):
        TCaptchaWSGIMiddleware(print, guard)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_when_that_fails_lets_nobody_through(runner):
    guard = Guard(["POST /login"], FakeVerifier(), when=lambda request: 1 / 0)
    assert runner(guard, WITH).code == "misconfigured"


EVENTS = {
    "passed": (1, WITH, "passed", ""),
    "refused by Tencent": (9, WITH, "refused", "ticket_reused"),
    "refused before": (1, WITHOUT, "refused", "ticket_missing"),
    "down": (OutageError("down"), WITH, "refused", "verifier_unavailable"),
}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(("says", "exchange", "outcome", "reason"), EVENTS.values(), ids=EVENTS)
def test_every_decision_is_told_once_and_without_a_secret(
    runner, says, exchange, outcome, reason
):
    guard = Guard([Rule("POST /login", name="door")], FakeVerifier(says))
    _, event = seen_by(guard, exchange, runner)
    assert (event.rule, event.outcome, event.reason) == ("door", outcome, reason)
    assert event.seconds >= 0
    assert bool(event.decision.fingerprint) is (exchange is WITH)
    assert not any(secret in repr(event) for secret in SECRETS)


def test_an_event_has_tencents_code():
    _, event = seen_by(Guard(["POST /login"], FakeVerifier(9)), WITH)
    assert event.decision.verdict.code == 9


def test_one_ticket_has_one_fingerprint():
    guard = Guard(["POST /login"], FakeVerifier())
    first, second = (seen_by(guard, WITH)[1].decision.fingerprint for _ in range(2))
    assert first == second
    assert len(first) == 12


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_sink_that_fails_hurts_nobody(runner, caplog):
    def sink(event):
        raise ZeroDivisionError

    guard = Guard(["POST /login"], FakeVerifier(), on_event=sink)
    assert runner(guard, WITH).code == "allowed"
    assert "POST /login: on_event failed" in caplog.text


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_without_any_address_the_fallback_is_sent_or_the_request_refused(runner):
    nowhere = Exchange(headers=HEAD, peer="unix:")
    verifier = FakeVerifier()
    runner(Guard(["POST /login"], verifier), nowhere)
    runner(Guard(["POST /login"], verifier, fallback_ip="192.0.2.1"), nowhere)
    assert [ticket.user_ip for ticket in verifier.tickets] == ["127.0.0.1", "192.0.2.1"]


WRONG_ADDRESSES = {
    "no address": (lambda request: "here", "the visitor's address is unknown"),
    "none": (lambda request: None, "`client_ip` must return a str, got NoneType"),
    "a header's values": (
        lambda request: request.header("X-Real-Ip"),
        "`client_ip` must return a str, got list",
    ),
}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(("client_ip", "words"), WRONG_ADDRESSES.values(), ids=WRONG_ADDRESSES)
def test_where_there_is_no_address_the_operator_is_told_why(runner, client_ip, words, caplog):
    guard = Guard(["POST /login"], FakeVerifier(), client_ip=client_ip, fallback_ip=None)
    assert runner(guard, WITH).code == "misconfigured"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.message.startswith(f"POST /login: the captcha is misconfigured: {words}")


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_whoever_builds_the_client_can_be_told_where_the_pair_was_looked_for(runner, caplog):
    caplog.set_level("DEBUG")
    text = Exchange(headers=(("Content-Type", "text/plain"),), pieces=(b"ticket=a&randstr=b",))
    runner(Guard(["POST /login"], FakeVerifier()), text)
    (message,) = [one for one in caplog.messages if "ticket_missing" in one]
    assert "X-Captcha-Ticket" in message
    assert "text/plain" in message


BAD = {
    "a mode that is none": ({"mode": "off"}, "enforce, observe"),
    "percent above 100": ({"percent": 101}, "0 to 100"),
    "percent below 0": ({"percent": -1}, "0 to 100"),
    "half a percent": ({"percent": 0.5}, "0 to 100"),
    "percent True": ({"percent": True}, "0 to 100"),
    "when as a text": ({"when": "never"}, "function"),
    "on_unavailable open": ({"on_unavailable": "open"}, "deny, allow"),
    "disaster_tickets True": ({"disaster_tickets": True}, "deny, allow"),
    "no budget": ({"allow_per_minute": 0}, "whole number"),
    "half a budget": ({"allow_per_minute": 0.5}, "whole number"),
    "no checks": ({"max_checks": 0}, "whole number"),
    "a fallback that is not an address": ({"fallback_ip": "here"}, "not an address"),
    "an event sink as a text": ({"on_event": "log"}, "function"),
}


@pytest.mark.parametrize(("settings", "mend"), BAD.values(), ids=BAD)
def test_settings_that_cannot_work_are_refused(settings, mend):
    with pytest.raises(ConfigurationError, match=mend):
        Guard(["/a"], FakeVerifier(), **settings)


def test_an_async_sink_is_refused():
    async def sink(event):
        raise NotImplementedError

    with pytest.raises(ConfigurationError, match="plain function"):
        Guard(["/a"], FakeVerifier(), on_event=sink)


class SyncReplayStore:
    def release(self, key, token):
        raise NotImplementedError

    def claim(self, key, token, seconds):
        raise NotImplementedError


class AsyncReplayStore:
    async def arelease(self, key, token):
        raise NotImplementedError

    async def aclaim(self, key, token, seconds):
        raise NotImplementedError


class AsyncClaim:
    def release(self, key, token):
        raise NotImplementedError

    async def claim(self, key, token, seconds):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("face", "replay_store", "mend"),
    [
        (TCaptchaMiddleware, SyncReplayStore(), "no aclaim"),
        (TCaptchaWSGIMiddleware, AsyncReplayStore(), "no claim"),
        (TCaptchaWSGIMiddleware, AsyncClaim(), "call it aclaim"),
    ],
    ids=["blocking under ASGI", "awaited under WSGI", "async claim"],
)
def test_replay_stores_of_the_wrong_kind_are_refused(face, replay_store, mend):
    with pytest.raises(ConfigurationError, match=mend):
        face(print, Guard(["/a"], FakeVerifier(), replay_store=replay_store))


def test_reasons_are_few_and_fit_for_labels():
    assert {len(str(reason).split()) for reason in (*Reason, *Unchecked)} == {1}


@pytest.mark.parametrize("code", [1, 7, 16, 21, 26, 31, 100, 12345])
def test_an_event_tells_tencents_code_whatever_it_stands_for(code):
    events = []
    guard = Guard(["/login"], FakeVerifier(code), on_event=events.append)
    by_hand(guard, WITH)
    decisions = [event.decision for event in events if event.decision is not None]
    assert [decision.verdict.code for decision in decisions] == [code]
