"""Operating the gate: observe mode, rollout, kill switch, `when`, events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from adapters import RUNNERS, Exchange, through_asgi, through_flow

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


def seen_by(guard, exchange, runner=through_flow):
    """Return the outcome, and the event that reported it."""
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
def test_observe_mode_reports_and_refuses_no_request(runner, exchange, verdict, reason, caplog):
    guard = Guard(["POST /login"], FakeVerifier(verdict), mode="observe")
    outcome, event = seen_by(guard, exchange, runner)
    assert (outcome.code, outcome.body_seen) == ("allowed", exchange.body)
    assert (event.outcome, event.reason) == ("unchecked", "observed")
    assert event.decision.refused == reason
    assert f"would be refused: {reason}" in caplog.text


def test_observe_mode_marks_no_request_that_passed():
    _, event = seen_by(Guard(["POST /login"], FakeVerifier(), mode="observe"), WITH)
    assert (event.outcome, event.decision.refused) == ("passed", None)


def test_one_rule_may_observe_while_another_enforces():
    guard = Guard([Rule("POST /login", mode="observe"), "POST /other"], FakeVerifier())
    assert through_flow(guard, WITHOUT).code == "allowed"
    assert through_flow(guard, Exchange(target="/other")).code == "ticket_missing"


def enforced(percent: int) -> set[int]:
    guard = Guard(["POST /login"], FakeVerifier(), percent=percent)
    visitors = {n: Exchange(peer=f"203.0.{n // 250}.{n % 250}") for n in range(1000)}
    return {n for n, visitor in visitors.items() if through_flow(guard, visitor).status == 403}


def test_a_percentage_of_visitors_is_enforced_always_the_same_ones():
    assert enforced(0) == set()
    assert len(enforced(100)) == 1000
    assert 50 < len(enforced(10)) < 200
    assert enforced(10) == enforced(10)
    assert enforced(10) < enforced(50)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_the_kill_switch_lets_every_request_through_and_reports_it(runner, caplog):
    guard = Guard(["POST /login"], FakeVerifier(7))
    guard.switch.off("incident")
    outcome, event = seen_by(guard, WITHOUT, runner)
    assert outcome.code == "allowed"
    assert event.reason == Unchecked.SWITCHED_OFF
    guard.switch.on()
    assert runner(guard, WITHOUT).code == "ticket_missing"
    assert [r.levelname for r in caplog.records if "switched" in r.message] == ["CRITICAL"] * 2
    assert "incident" in caplog.text


def test_several_guards_may_share_one_kill_switch():
    switch = Switch()
    guards = [Guard(["POST /login"], FakeVerifier(), switch=switch) for _ in range(2)]
    switch.off("incident")
    assert [through_flow(guard, WITHOUT).code for guard in guards] == ["allowed"] * 2


def from_abroad(request):
    return request.header("X-Country") == ["XX"]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_when_decides_if_a_ticket_is_required(runner):
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
def test_a_when_that_raises_lets_no_request_through(runner):
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
def test_every_decision_is_reported_once_and_without_a_secret(
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
def test_an_event_sink_that_raises_changes_no_decision(runner, caplog):
    def sink(event):
        raise ZeroDivisionError

    guard = Guard(["POST /login"], FakeVerifier(), on_event=sink)
    assert runner(guard, WITH).code == "allowed"
    assert "POST /login: on_event failed" in caplog.text


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_without_an_address_the_fallback_is_sent_or_the_request_is_refused(runner):
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
def test_the_log_explains_why_no_address_was_found(runner, client_ip, words, caplog):
    guard = Guard(["POST /login"], FakeVerifier(), client_ip=client_ip, fallback_ip=None)
    assert runner(guard, WITH).code == "misconfigured"
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.message.startswith(f"POST /login: the captcha is misconfigured: {words}")


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_the_log_shows_where_the_pair_was_looked_for(runner, caplog):
    caplog.set_level("DEBUG")
    text = Exchange(headers=(("Content-Type", "text/plain"),), pieces=(b"ticket=a&randstr=b",))
    runner(Guard(["POST /login"], FakeVerifier()), text)
    (message,) = [text for text in caplog.messages if "ticket_missing" in text]
    assert "X-Captcha-Ticket" in message
    assert "text/plain" in message


BAD = {
    "an invalid mode": ({"mode": "off"}, "enforce, observe"),
    "percent above 100": ({"percent": 101}, "0 to 100"),
    "percent below 0": ({"percent": -1}, "0 to 100"),
    "half a percent": ({"percent": 0.5}, "0 to 100"),
    "percent True": ({"percent": True}, "0 to 100"),
    "when as a string": ({"when": "never"}, "function"),
    "on_unavailable open": ({"on_unavailable": "open"}, "deny, allow"),
    "disaster_tickets True": ({"disaster_tickets": True}, "deny, allow"),
    "no budget": ({"allow_per_minute": 0}, "whole number"),
    "half a budget": ({"allow_per_minute": 0.5}, "whole number"),
    "no checks": ({"max_checks": 0}, "whole number"),
    "a fallback that is not an address": ({"fallback_ip": "here"}, "not an address"),
    "an event sink as a string": ({"on_event": "log"}, "function"),
}


@pytest.mark.parametrize(("settings", "fix"), BAD.values(), ids=BAD)
def test_invalid_operating_settings_are_refused(settings, fix):
    with pytest.raises(ConfigurationError, match=fix):
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
    ("adapter", "replay_store", "fix"),
    [
        (TCaptchaMiddleware, SyncReplayStore(), "no aclaim"),
        (TCaptchaWSGIMiddleware, AsyncReplayStore(), "no claim"),
        (TCaptchaWSGIMiddleware, AsyncClaim(), "call it aclaim"),
    ],
    ids=["blocking under ASGI", "awaited under WSGI", "async claim"],
)
def test_replay_stores_for_the_wrong_protocol_are_refused(adapter, replay_store, fix):
    with pytest.raises(ConfigurationError, match=fix):
        adapter(print, Guard(["/a"], FakeVerifier(), replay_store=replay_store))


def test_reasons_are_few_and_fit_for_labels():
    assert {len(str(reason).split()) for reason in (*Reason, *Unchecked)} == {1}


@pytest.mark.parametrize("code", [1, 7, 16, 21, 26, 31, 100, 12345])
def test_an_event_has_tencents_code_in_every_case(code):
    events = []
    guard = Guard(["/login"], FakeVerifier(code), on_event=events.append)
    through_flow(guard, WITH)
    decisions = [event.decision for event in events if event.decision is not None]
    assert [decision.verdict.code for decision in decisions] == [code]
