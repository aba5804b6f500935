"""Lines that requests cause: one a minute for each rule and kind, and a count of the rest."""

from __future__ import annotations

import logging
import weakref

import pytest
from adapters import RUNNERS, Exchange
from outages import Clock, bring

from tcaptcha_middleware import (
    Guard,
    MisconfiguredError,
    OutageError,
    ReplayStoreError,
    Rule,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.operations.log import RateLimit
from tcaptcha_middleware.testing import FakeVerifier

SECRETS = ("tr03secret", "@secretrand")
every_runner = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)


def ticket(number, target="/login"):
    text, randstr = SECRETS
    head = (("X-Captcha-Ticket", f"{text}{number}"), ("X-Captcha-Randstr", randstr))
    return Exchange(target=target, headers=head, peer=f"203.0.113.{number % 250}")


def timed(guard):
    """Let a test's clock limit the lines of a guard."""
    clock = Clock()
    shared = guard.match("POST", "/login").shared
    object.__setattr__(shared, "rate_limit", RateLimit(clock))
    return clock


class Down:
    """A replay store that refuses connections."""

    def claim(self, key, token, seconds):
        raise ReplayStoreError("Redis: ConnectionError")

    async def aclaim(self, key, token, seconds):
        self.claim(key, token, seconds)

    def release(self, key, token):
        raise ReplayStoreError("Redis: ConnectionError")

    async def arelease(self, key, token):
        self.release(key, token)


def fails(*_):
    raise ZeroDivisionError


UNSENT = VerifierError("no such name", answered=False, sent=False)
BROKEN_JSON = Exchange(headers=(("Content-Type", "application/json"),), pieces=(b"{",))
TEXT = Exchange(headers=(("Content-Type", "text/plain"),), pieces=(b"x",))
# The settings of a guard, its requests, and the line that they cause.
LINES = {
    "foreign tickets": (FakeVerifier(16), {}, None, "ERROR", "CaptchaCode 16"),
    "unknown codes": (FakeVerifier(12345), {}, None, "WARNING", "CaptchaCode 12345"),
    "an outage": (FakeVerifier(OutageError("down")), {}, None, "WARNING", "no verdict: down"),
    "throttling": (FakeVerifier(ThrottledError("slow")), {}, None, "WARNING", "no verdict"),
    "misconfigured": (FakeVerifier(MisconfiguredError("key")), {}, None, "ERROR", "key"),
    "a bug": (FakeVerifier(ZeroDivisionError()), {}, None, "ERROR", "the verifier failed"),
    "no store": (FakeVerifier(), {"replay_store": Down()}, None, "ERROR", "the vendor alone"),
    "no store, denied": (
        FakeVerifier(),
        {"replay_store": Down(), "on_replay_store_error": "deny"},
        None,
        "ERROR",
        "the request is refused",
    ),
    "no release": (
        FakeVerifier(UNSENT),
        {"replay_store": Down()},
        None,
        "WARNING",
        "a claim was not released",
    ),
    "observed": (
        FakeVerifier(7),
        {"mode": "observe"},
        None,
        "WARNING",
        "would be refused: ticket_rejected",
    ),
    "a when": (FakeVerifier(), {"when": fails}, None, "ERROR", "a hook failed"),
    "a sink": (FakeVerifier(), {"on_event": fails}, None, "ERROR", "on_event failed"),
    "percent": (
        FakeVerifier(),
        {"percent": 50, "client_ip": fails},
        None,
        "ERROR",
        "client_ip failed",
    ),
    "broken bodies": (FakeVerifier(), {}, BROKEN_JSON, "INFO", "not JSON"),
    "other bodies": (FakeVerifier(), {}, TEXT, "INFO", "no source reads"),
}


def lines(caplog, text):
    return [record for record in caplog.records if text in record.message]


@every_runner
@pytest.mark.parametrize("case", LINES.values(), ids=LINES)
def test_a_line_is_written_once_a_minute_with_a_count(runner, case, caplog):
    verifier, settings, exchange, level, text = case
    caplog.set_level("INFO")
    guard = Guard(["POST /login"], verifier, **settings)
    bring(guard, "up")  # its probes do not run
    clock = timed(guard)
    for number in range(20):
        runner(guard, exchange or ticket(number))
    (line,) = lines(caplog, text)
    assert line.levelname == level
    assert line.message.startswith("POST /login: ")
    clock.now += 59.9
    runner(guard, exchange or ticket(20))
    assert lines(caplog, text) == [line]
    clock.now += 0.1
    runner(guard, exchange or ticket(21))
    _, second = lines(caplog, text)
    assert second.message.endswith(" (20 more since the last such line)")
    assert not any(secret in caplog.text for secret in SECRETS)


def test_a_thousand_foreign_tickets_are_one_error(caplog):
    guard = Guard(["POST /login"], FakeVerifier(16))
    clock = timed(guard)
    for number in range(1000):
        assert RUNNERS["flow"](guard, ticket(number)).code == "misconfigured"
    assert len(caplog.records) == 1
    clock.now += 60
    RUNNERS["flow"](guard, ticket(1000))
    assert caplog.records[1].message.endswith(" (999 more since the last such line)")


def test_354_failures_of_a_replay_store_are_one_line(caplog):
    guard = Guard(["POST /login"], FakeVerifier(), replay_store=Down())
    timed(guard)
    for number in range(354):
        assert RUNNERS["flow"](guard, ticket(number)).code == "allowed"
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@every_runner
def test_each_rule_has_lines(runner, caplog):
    guard = Guard(["POST /login", Rule("POST /pay", name="pay")], FakeVerifier(16))
    timed(guard)
    for number in range(10):
        runner(guard, ticket(number, ("/login", "/pay")[number % 2]))
    names = [record.message.partition(": ")[0] for record in caplog.records]
    assert names == ["POST /login", "pay"]


def test_each_kind_of_line_has_a_count(caplog):
    caplog.set_level("INFO")
    clock = Clock()
    limit = RateLimit(clock)
    for _ in range(3):
        limit.log(logging.INFO, "%s is %d", "a", 1)
        limit.log(logging.INFO, "%s is %d", "a", 2)
        limit.log(logging.INFO, "%s", object(), kind=("an", "object"))
    clock.now += 60
    limit.log(logging.INFO, "%s is %d", "a", 2)
    messages = [message for message in caplog.messages if not message.startswith("<")]
    assert messages == ["a is 1", "a is 2", "a is 2 (2 more since the last such line)"]
    assert len(caplog.messages) == 4


def test_a_line_below_the_level_is_not_counted(caplog):
    clock = Clock()
    limit = RateLimit(clock)
    caplog.set_level("WARNING")
    limit.log(logging.INFO, "a")
    caplog.set_level("INFO")
    limit.log(logging.INFO, "a")
    assert caplog.messages == ["a"]


class Kind:
    """A kind of line whose lifetime shows if it is still cached."""


def test_few_kinds_of_lines_are_remembered(caplog):
    alive, limit = weakref.WeakSet(), RateLimit(Clock())
    for _ in range(5000):
        kind = Kind()
        alive.add(kind)
        limit.log(logging.ERROR, "a", kind=(kind,))
        del kind
    caplog.clear()
    assert len(alive) <= 1000


@every_runner
def test_requests_that_find_no_slot_write_one_line(runner, monkeypatch, caplog):
    monkeypatch.setattr("tcaptcha_middleware.flow._SLOT_WAIT", 0.001)
    guard = Guard(["POST /login"], FakeVerifier(), max_checks=1)
    assert guard.match("POST", "/login").health.slots.enter()
    assert {runner(guard, ticket(number)).code for number in range(3)} == {"overloaded"}
    assert caplog.messages == ["POST /login: all 1 verification slots were busy for too long"]
