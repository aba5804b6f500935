"""The decision flow by its effects: their order, what releases a claim, and what ends early."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from hashlib import sha256
from math import inf

import pytest
from adapters import RUNNERS, Exchange, through_asgi, through_flow
from outages import Clock, bring
from replay_stores import isolated_store

from tcaptcha_middleware import (
    Allow,
    Guard,
    MemoryReplayStore,
    MisconfiguredError,
    OutageError,
    Reason,
    RequestInfo,
    Rule,
    ThrottledError,
    Verdict,
    VerifierError,
)
from tcaptcha_middleware.effects import (
    CallHook,
    Claim,
    ReadBody,
    Release,
    Verify,
    WaitForSlot,
)
from tcaptcha_middleware.flow import decide
from tcaptcha_middleware.health.monitor import State
from tcaptcha_middleware.operations import Event
from tcaptcha_middleware.replay.monitor import FAILURES, PAUSE
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.testing import FakeVerifier

TICKET = "tr03good"
PAIR = [(b"x-captcha-ticket", TICKET.encode()), (b"x-captcha-randstr", b"@r")]
JSON = [(b"content-type", b"application/json")]
every_runner = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
every_action = pytest.mark.parametrize("action", [WEB, MINI_PROGRAM], ids=["web", "mini"])

RESULTS = {
    CallHook: True,
    ReadBody: (b'{"ticket": "tr03good", "randstr": "@r"}', False),
    WaitForSlot: True,
    Claim: True,
    Release: None,
    Verify: Verdict(1),
}


class Remote(MemoryReplayStore):
    """A store that is called by effects, like every store that is not in memory."""


def guard_of(*outcomes, action=WEB, **settings):
    settings = {"replay_store": Remote(clock=lambda: 0.0, single_process=True)} | settings
    return Guard(["POST /login"], FakeVerifier(*outcomes, action=action), **settings)


def rule_of(guard):
    return guard.match("POST", "/login")


def run(rule, results=None, headers=PAIR):
    """Run the flow with a result, an exception or a function for each type of effect.

    Returns the decision and the effects.
    """
    results = RESULTS | (results or {})
    flow = decide(rule, RequestInfo("http", "POST", "/login", headers=headers, peer="::1"))
    effects = []
    try:
        effect = next(flow)
        while True:
            effects.append(effect)
            result = results[type(effect)]
            if callable(result):
                try:
                    result = result()
                except Exception as error:
                    result = error
            is_error = isinstance(result, Exception)
            effect = flow.throw(result) if is_error else flow.send(result)
    except StopIteration as stop:
        return stop.value, effects


def kinds(effects):
    return [type(effect) for effect in effects]


def take_all(rule):
    """Take every verification slot of a rule."""
    while rule.health.slots.enter():
        pass


def free(rule):
    """Return how many slots are free, and take them."""
    count = 0
    while rule.health.slots.enter():
        count += 1
    return count


# -- The verdict ------


SCORES = {
    "at the limit": (Verdict(1, score=60), None),
    "above it": (Verdict(1, score=61), Reason.RISK_DENIED),
    "none": (Verdict(1), None),
    "an outcome of another vendor": (Verdict(outcome="passed", score=99), Reason.RISK_DENIED),
    "not passed": (Verdict(9, score=0), Reason.TICKET_REUSED),
}


@pytest.mark.parametrize(("verdict", "reason"), SCORES.values(), ids=SCORES)
def test_a_score_above_max_score_is_refused(verdict, reason):
    decision, _ = run(rule_of(guard_of(max_score=60)), {Verify: verdict})
    assert getattr(decision, "reason", None) is reason
    assert decision.verdict is verdict


@pytest.mark.parametrize("answer", [1, True, None, "passed", {"code": 1}], ids=repr)
def test_what_is_not_a_verdict_is_misconfigured_and_reaches_no_event(answer):
    events = []
    decision, _ = run(rule_of(guard_of(on_event=events.append)), {Verify: answer})
    assert (decision.reason, decision.verdict) == (Reason.MISCONFIGURED, None)
    assert [event.decision for event in events] == [decision]


def test_without_max_score_any_score_passes():
    decision, _ = run(rule_of(guard_of()), {Verify: Verdict(1, score=100)})
    assert isinstance(decision, Allow)


# -- The order of the steps ------


@every_action
def test_a_store_in_memory_is_called_without_an_effect(action):
    guard = guard_of(action=action, replay_store=isolated_store())
    decision, effects = run(rule_of(guard))
    assert isinstance(decision, Allow)
    assert kinds(effects) == [Verify]
    decision, effects = run(rule_of(guard))
    assert (decision.reason, effects) == (Reason.TICKET_REUSED, [])


def test_the_ticket_is_claimed_and_then_verified():
    decision, effects = run(rule_of(guard_of()))
    assert isinstance(decision, Allow)
    assert kinds(effects) == [Claim, Verify]


def test_a_hook_and_the_body_come_before_the_claim():
    rule = rule_of(guard_of(when=print))
    _, effects = run(rule, headers=JSON)
    assert kinds(effects) == [CallHook, ReadBody, Claim, Verify]


def test_a_slot_comes_before_the_claim():
    rule = rule_of(guard_of(max_checks=1))
    take_all(rule)
    _, effects = run(rule)
    assert kinds(effects) == [WaitForSlot, Claim, Verify]


def test_without_a_slot_the_ticket_is_neither_claimed_nor_sent():
    rule = rule_of(guard_of(max_checks=1))
    take_all(rule)
    decision, effects = run(rule, {WaitForSlot: False})
    assert decision.reason is Reason.OVERLOADED
    assert kinds(effects) == [WaitForSlot]
    assert free(rule) == 0


@pytest.mark.parametrize("is_full", [False, True])
def test_during_an_outage_no_step_is_taken(is_full):
    guard = guard_of(max_checks=1)
    bring(guard, "down")
    rule = rule_of(guard)
    if is_full:
        take_all(rule)
    decision, effects = run(rule)
    assert (decision.reason, effects) == (Reason.VERIFIER_UNAVAILABLE, [])
    assert free(rule) == (0 if is_full else 1)


def test_the_state_is_read_again_after_the_wait_for_a_slot():
    guard = guard_of(max_checks=1)
    clock = bring(guard, "suspect")
    rule = rule_of(guard)
    take_all(rule)

    def wait():
        guard.verifier.is_up = False
        for _ in range(2):
            rule.health.probe_now()
            clock.now += 1.0
        return True  # the slot is this visitor's

    decision, effects = run(rule, {WaitForSlot: wait})
    assert rule.health.state is State.DOWN
    assert decision.reason is Reason.VERIFIER_UNAVAILABLE
    assert kinds(effects) == [WaitForSlot]
    assert free(rule) == 1


def test_a_claim_that_is_not_the_first_ends_the_flow():
    rule = rule_of(guard_of(max_checks=1))
    decision, effects = run(rule, {Claim: False})
    assert decision.reason is Reason.TICKET_REUSED
    assert kinds(effects) == [Claim]
    assert free(rule) == 1


@pytest.mark.parametrize(("answer", "kind"), [(1, "int"), (None, "NoneType"), ("OK", "str")])
def test_a_store_that_answers_neither_true_nor_false_is_misconfigured(answer, kind, caplog):
    rule = rule_of(guard_of(max_checks=1))
    decision, effects = run(rule, {Claim: answer})
    assert decision.reason is Reason.MISCONFIGURED
    assert kinds(effects) == [Claim]
    assert f"the replay store returned {kind}, not True or False" in caplog.text
    assert free(rule) == 1


def test_claim_and_verification_share_the_time_limit():
    guard = guard_of(check_timeout=4)
    rule, clock = rule_of(guard), Clock()
    object.__setattr__(rule.shared, "clock", clock)

    def claim():
        clock.now += 1.5
        return True

    _, (claimed, verified) = run(rule, {Claim: claim})
    assert (claimed.timeout, verified.timeout) == (2, 2.5)


# -- What a verification proves about the service ------

OUTCOMES = {
    "code 26": (Verdict(26), State.SUSPECT),
    "an outage": (OutageError("down"), State.SUSPECT),
    "the time limit": (TimeoutError(), State.SUSPECT),
    "code 1": (Verdict(1), State.UP),
    "code 9": (Verdict(9), State.UP),
    "code 100": (Verdict(100), State.UP),
    "an unknown code": (Verdict(12345), State.UP),
    "throttling": (ThrottledError("slow down"), State.UP),
}


@pytest.mark.parametrize(("outcome", "state"), OUTCOMES.values(), ids=OUTCOMES)
@pytest.mark.parametrize("before", ["up", "suspect"])
def test_a_verification_is_judged_before_its_outcome_counts(outcome, state, before):
    guard = guard_of()
    bring(guard, before)
    rule = rule_of(guard)
    run(rule, {Verify: outcome})
    assert rule.health.state is state


def test_a_code_26_is_judged_by_the_state_when_it_is_handled():
    guard = guard_of(on_unavailable="allow")
    clock = bring(guard, "suspect")
    rule = rule_of(guard)

    def verify():
        guard.verifier.is_up = False
        for _ in range(2):
            rule.health.probe_now()
            clock.now += 1.0
        return Verdict(26)

    decision, _ = run(rule, {Verify: verify})
    assert (decision.unchecked, decision.verdict) == ("unavailable", Verdict(26))


# -- Slots are released ------

EXITS = [
    GeneratorExit(),
    asyncio.CancelledError(),
    KeyboardInterrupt(),
    SystemExit(),
    TimeoutError(),
    OutageError("down"),
    VerifierError("not sent", sent=False),
    ZeroDivisionError(),
]


def begin(rule, kind, headers=PAIR):
    """Run the flow up to its first effect of a kind, and return the flow."""
    flow = decide(rule, RequestInfo("http", "POST", "/login", headers=headers, peer="::1"))
    effect = next(flow)
    while type(effect) is not kind:
        result = RESULTS[type(effect)]
        if kind is Release and type(effect) is Verify:
            effect = flow.throw(VerifierError("not sent", sent=False))
        else:
            effect = flow.send(result)
    return flow


@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", [CallHook, ReadBody, Claim, Verify, Release])
def test_every_exit_releases_the_slot(kind, error):
    rule = rule_of(guard_of(max_checks=1, when=print))
    flow = begin(rule, kind, JSON)
    with suppress(type(error), StopIteration):
        flow.throw(error)
    flow.close()
    assert free(rule) == 1


@pytest.mark.parametrize("kind", [CallHook, ReadBody, Claim, Verify, Release])
def test_a_closed_flow_releases_the_slot(kind):
    rule = rule_of(guard_of(max_checks=1, when=print))
    begin(rule, kind, JSON).close()
    assert free(rule) == 1


@pytest.mark.parametrize("error", EXITS, ids=lambda error: type(error).__name__)
def test_a_visitor_who_waits_for_a_slot_releases_none(error):
    rule = rule_of(guard_of(max_checks=1))
    take_all(rule)
    flow = begin(rule, WaitForSlot)
    with suppress(type(error), StopIteration):
        flow.throw(error)
    flow.close()
    assert free(rule) == 0


def test_a_cancelled_verification_does_not_count_as_a_failure():
    rule = rule_of(guard_of())
    begin(rule, Verify).close()
    assert rule.health.state is State.UP


# -- Releases ------

UNSENT = {
    "no verdict": VerifierError("no such name", answered=False, sent=False),
    "an outage": OutageError("refused", sent=False, connected=False),
    "overload": ThrottledError("no file is free", answered=False, sent=False),
    "misconfigured": MisconfiguredError("no credentials", answered=False, sent=False),
}
KEPT = {
    "a pass": Verdict(1),
    "malicious": Verdict(1, evil_level=100),
    "an outage": OutageError("down"),
    "code 26": Verdict(26),
    "the time limit": TimeoutError(),
    "throttling": ThrottledError("slow down"),
    "misconfigured": Verdict(100),
    "another captcha's ticket, or a wrong app_id": Verdict(16),
    "an unknown code": Verdict(12345),
    "no verdict": VerifierError("what?"),
    "not a Verdict": 1,
    "a bug": ZeroDivisionError(),
}
FINAL = {
    "expired": Verdict(8),
    "a wrong format": Verdict(10),
    "cannot be decrypted": Verdict(15),
    "not a ticket": Verdict(21),
    "a bad visitor": Verdict(25),
}


@every_action
@pytest.mark.parametrize("error", UNSENT.values(), ids=UNSENT)
def test_a_claim_is_released_if_the_ticket_was_not_sent(action, error):
    _, effects = run(rule_of(guard_of(action=action)), {Verify: error})
    claim, _, release = effects
    assert isinstance(release, Release)
    assert (release.key, release.token) == (claim.key, claim.token)
    assert release.store is claim.store


@every_action
@pytest.mark.parametrize("outcome", KEPT.values(), ids=KEPT)
def test_a_claim_is_kept_if_the_ticket_may_have_been_spent(action, outcome):
    _, effects = run(rule_of(guard_of(action=action)), {Verify: outcome})
    assert kinds(effects) == [Claim, Verify]


@pytest.mark.parametrize("verdict", FINAL.values(), ids=FINAL)
def test_a_ticket_that_can_never_pass_is_released_if_the_vendor_accepts_reuse(verdict):
    _, effects = run(rule_of(guard_of(action=MINI_PROGRAM)), {Verify: verdict})
    assert kinds(effects) == [Claim, Verify, Release]
    _, effects = run(rule_of(guard_of()), {Verify: verdict})
    assert kinds(effects) == [Claim, Verify]


def test_the_key_of_a_claim_is_a_hash_of_ticket_and_randstr():
    rule = rule_of(guard_of())

    def key(ticket, randstr):
        names = b"x-captcha-ticket", b"x-captcha-randstr"
        pair = list(zip(names, (ticket.encode(), randstr.encode()), strict=True))
        (claim,) = [
            effect for effect in run(rule, headers=pair)[1] if isinstance(effect, Claim)
        ]
        return claim.key

    assert len({key("a", "b"), key("a", "c"), key("c", "b"), key("ab", "c")}) == 4
    assert key("a", "b") == sha256(b"a\nb").hexdigest()


def test_each_claim_has_a_token_that_no_other_has():
    rule = rule_of(guard_of())
    tokens = {run(rule)[1][0].token for _ in range(50)}
    assert len(tokens) == 50


@every_action
def test_a_release_that_fails_changes_no_decision(action):
    rule = rule_of(guard_of(action=action))
    results = {Verify: UNSENT["no verdict"], Release: ZeroDivisionError()}
    assert run(rule, results)[0].reason is Reason.VERIFIER_UNAVAILABLE


def released(effects):
    return [(each.key, each.token) for each in effects if isinstance(each, Release)]


@every_action
def test_a_release_that_failed_is_tried_again_after_a_later_claim(action):
    rule = rule_of(guard_of(action=action))
    _, effects = run(rule, {Verify: UNSENT["no verdict"], Release: ZeroDivisionError()})
    claim = effects[0]
    _, effects = run(rule)
    assert kinds(effects) == [Claim, Verify, Release]
    assert released(effects) == [(claim.key, claim.token)]
    assert kinds(run(rule)[1]) == [Claim, Verify]


def test_a_claim_whose_release_was_skipped_is_released_after_the_store_has_answered():
    rule = rule_of(guard_of())
    store = Store(rule, seconds=2)

    def hang():
        for _ in range(FAILURES):  # of other requests, meanwhile
            rule.shared.replay_monitor.failed(store.clock.now)
        return UNSENT["no verdict"]

    _, effects = run(rule, {Verify: hang})
    assert kinds(effects) == [Claim, Verify]
    claims = [(effects[0].key, effects[0].token)]
    store.clock.now += PAUSE
    assert released(run(rule)[1]) == claims


def test_few_late_releases_follow_each_verification():
    rule = rule_of(guard_of())
    late = [("key", f"{n}") for n in range(20)]
    rule.shared.unreleased.extend((*each, inf) for each in late)
    assert [released(run(rule)[1]) for _ in range(4)] == [late[:8], late[8:16], late[16:], []]


def test_late_releases_end_at_the_first_that_is_slow_because_a_visitor_waits():
    rule = rule_of(guard_of())
    store = Store(rule, seconds=0)
    rule.shared.unreleased.extend(("key", f"{n}", inf) for n in range(3))

    def slow():
        store.clock.now += 1

    assert [released(run(rule, {Release: slow})[1]) for _ in range(2)] == [
        [("key", "0")],
        [("key", "1")],
    ]


def test_late_releases_end_at_the_first_that_fails_and_go_on_later():
    rule = rule_of(guard_of())
    store = Store(rule, seconds=0)
    rule.shared.unreleased.extend(("key", f"{n}", store.clock.now + n) for n in (1, 2, 3))
    store.clock.now += 1  # the first has expired
    assert released(run(rule, {Release: ZeroDivisionError()})[1]) == [("key", "2")]
    assert released(run(rule)[1]) == [("key", "3"), ("key", "2")]
    assert not rule.shared.unreleased


def test_late_releases_end_if_another_thread_has_made_them():
    rule = rule_of(guard_of())
    rule.shared.unreleased.extend(("key", f"{n}", inf) for n in range(3))
    _, effects = run(rule, {Release: rule.shared.unreleased.clear})
    assert kinds(effects) == [Claim, Verify, Release]


def test_a_claim_that_is_cancelled_is_released_later():
    rule = rule_of(guard_of())
    flow = decide(rule, RequestInfo("http", "POST", "/login", headers=PAIR, peer="::1"))
    claim = next(flow)
    assert isinstance(claim, Claim)
    flow.close()
    assert [late[:2] for late in rule.shared.unreleased] == [(claim.key, claim.token)]


def test_a_release_that_is_cancelled_is_made_later():
    rule = rule_of(guard_of())
    rule.shared.unreleased.append(("key", "token", inf))
    flow = decide(rule, RequestInfo("http", "POST", "/login", headers=PAIR, peer="::1"))
    effect = next(flow)
    while not isinstance(effect, Release):
        effect = flow.send(RESULTS[type(effect)])
    flow.close()
    assert [claim[:2] for claim in rule.shared.unreleased] == [("key", "token")]


def test_late_releases_take_neither_time_nor_a_slot_from_the_verification():
    rule = rule_of(guard_of())
    rule.shared.unreleased.append(("key", "token", inf))
    slots = []
    results = {Release: lambda: slots.append(free(rule))}
    assert kinds(run(rule, results)[1]) == [Claim, Verify, Release]
    assert slots == [rule.health.slots.limit]


def test_a_store_that_fails_is_asked_for_no_late_releases():
    rule = rule_of(guard_of())
    rule.shared.unreleased.append(("key", "token", inf))
    failing = {Claim: ZeroDivisionError(), Release: ZeroDivisionError()}
    assert released(run(rule, failing)[1]) == []
    results = {Verify: UNSENT["no verdict"], Release: ZeroDivisionError()}
    claim, *effects = run(rule, results)[1]
    assert released([claim, *effects]) == [(claim.key, claim.token)]
    assert len(rule.shared.unreleased) == 2


class Losing(MemoryReplayStore):
    """A store that may lose claims from the first claim on."""

    loses_claims = False

    def claim(self, key, token, seconds):
        self.loses_claims = True
        return super().claim(key, token, seconds)


@every_runner
def test_a_store_that_loses_claims_refuses_tickets_if_the_vendor_accepts_reuse(runner):
    exchange = Exchange(headers=(("X-Captcha-Ticket", TICKET), ("X-Captcha-Randstr", "@r")))
    store = Losing(clock=lambda: 0.0, single_process=True)
    guard = guard_of(action=MINI_PROGRAM, replay_store=store)
    assert runner(guard, exchange).code == "verifier_unavailable"
    assert guard.verifier.tickets == []
    guard = guard_of(replay_store=Losing())
    codes = [runner(guard, exchange).code for _ in range(2)]
    assert codes == ["allowed", "ticket_reused"]


# -- A replay store that hangs ------


class Store:
    """How a store behaves, by a clock that only the store moves."""

    def __init__(self, rule, seconds):
        self.clock, self.seconds = Clock(), seconds
        object.__setattr__(rule.shared, "clock", self.clock)

    def fail(self):
        self.clock.now += self.seconds
        return TimeoutError()


def claims(rule, store, count):
    """Return for each of some requests if it asked the store."""
    return [Claim in kinds(run(rule, {Claim: store.fail})[1]) for _ in range(count)]


def test_a_store_that_hangs_costs_three_requests_its_timeout_and_is_skipped():
    rule = rule_of(guard_of(check_timeout=4))
    store = Store(rule, seconds=2)
    began = store.clock.now
    assert claims(rule, store, 100) == [True] * FAILURES + [False] * (100 - FAILURES)
    assert store.clock.now - began == FAILURES * 2


def test_a_skipped_store_is_tried_by_one_request_after_five_seconds():
    rule = rule_of(guard_of())
    store = Store(rule, seconds=2)
    claims(rule, store, FAILURES)
    store.clock.now += PAUSE - 0.1
    assert claims(rule, store, 3) == [False] * 3
    store.clock.now += 0.1
    assert claims(rule, store, 3) == [True, False, False]
    store.clock.now += PAUSE
    assert kinds(run(rule)[1]) == [Claim, Verify]  # it answers again
    assert claims(rule, store, 1) == [True]


def test_a_store_that_fails_at_once_is_not_skipped():
    rule = rule_of(guard_of())
    assert all(claims(rule, Store(rule, seconds=0.01), 20))


def test_a_store_that_refuses_claims_is_not_skipped():
    rule = rule_of(guard_of())
    store = Store(rule, seconds=2)
    for _ in range(3):
        claims(rule, store, FAILURES - 1)
        assert run(rule, {Claim: False})[0].reason is Reason.TICKET_REUSED
    assert claims(rule, store, 1) == [True]


@every_action
def test_while_the_store_is_skipped_only_web_tickets_are_verified(action):
    rule = rule_of(guard_of(action=action))
    store = Store(rule, seconds=2)
    claims(rule, store, FAILURES)
    decision, effects = run(rule)
    assert kinds(effects) == ([Verify] if action is WEB else [])
    assert isinstance(decision, Allow) == (action is WEB)


def test_a_store_that_hangs_costs_no_request_more_by_its_releases():
    rule = rule_of(guard_of())
    store = Store(rule, seconds=2)
    results = {Claim: store.fail, Verify: UNSENT["no verdict"], Release: store.fail}
    began = store.clock.now
    for _ in range(10):
        run(rule, results)
    assert store.clock.now - began == FAILURES * 2


# -- `when` ------

FALSE_FRIENDS = [None, 1, 0, "yes", "", [], object(), 1.0, NotImplemented]
each_value = pytest.mark.parametrize("value", FALSE_FRIENDS, ids=lambda v: ascii(v)[:14])
WITHOUT = Exchange()


@every_runner
@each_value
def test_a_when_that_does_not_return_a_bool_refuses(runner, value, caplog):
    guard = guard_of(when=lambda request: value)
    outcome = runner(guard, WITHOUT)
    assert (outcome.code, outcome.status) == ("misconfigured", 500)
    assert f"`when` must return True or False, got {type(value).__name__}" in caplog.text


@each_value
def test_an_async_when_that_does_not_return_a_bool_refuses(value):
    async def when(request):
        return value

    outcome = through_asgi(guard_of(when=when), WITHOUT)
    assert (outcome.code, outcome.status) == ("misconfigured", 500)


@every_runner
def test_a_when_that_returns_a_bool_decides(runner):
    assert runner(guard_of(when=lambda _: False), WITHOUT).unchecked == "not_asked"
    assert runner(guard_of(when=lambda _: True), WITHOUT).code == "ticket_missing"


def test_an_async_when_that_returns_a_bool_decides():
    async def when(request):
        return request.header("X-Ask") == ["1"]

    guard = guard_of(when=when)
    assert through_asgi(guard, WITHOUT).unchecked == "not_asked"
    asks = Exchange(headers=(("X-Ask", "1"),))
    assert through_asgi(guard, asks).code == "ticket_missing"


# -- `percent` ------

SPELLINGS = {
    "IPv4": lambda n: [
        f"203.0.113.{n}",
        f"::ffff:203.0.113.{n}",
        f"::ffff:cb00:71{n:02x}",
        f"0:0:0:0:0:ffff:203.0.113.{n}",
        f"203.0.113.{n}:4711",
        f"[::ffff:203.0.113.{n}]:4711",
        f" 203.0.113.{n} ",
    ],
    "IPv6": lambda n: [
        f"2001:db8::{n:x}",
        f"2001:0db8::{n:04x}",
        f"2001:DB8:0:0:0:0:0:{n:X}",
        f"[2001:db8::{n:x}]",
        f"[2001:db8::{n:x}]:4711",
        f"2001:db8::{n:x}%eth0",
    ],
}


@every_runner
@pytest.mark.parametrize("spellings", SPELLINGS.values(), ids=SPELLINGS)
def test_each_spelling_of_an_address_is_the_same_visitor(runner, spellings):
    guard, codes = guard_of(percent=50), []
    for n in range(1, 9):
        outcomes = {runner(guard, Exchange(peer=peer)).code for peer in spellings(n)}
        codes.append(outcomes)
        assert len(outcomes) == 1
    assert {"allowed"} in codes
    assert {"ticket_missing"} in codes


# -- Disaster tickets ------


def test_a_disaster_ticket_counts_once_for_as_long_as_it_is_fresh():
    guard = guard_of(disaster_tickets="allow", allow_per_minute=1000)
    bring(guard, "down")
    rule, clock, began = rule_of(guard), Clock(), 1_700_000_000.0
    for name in ("disaster_seen", "disaster_per_ip"):
        object.__setattr__(rule, name, MemoryReplayStore(clock=clock))
    object.__setattr__(rule.shared, "wall_clock", lambda: began + clock.now - 1000.0)
    # Made by a clock that is five minutes fast, so it is fresh for ten.
    ticket = f"trerror_1001_{guard.verifier.captcha.app_id}_{int(began) + 300}"
    codes = []
    for number, seconds in enumerate((0, 1, 61, 299, 301, 599, 600)):
        clock.now = 1000.0 + seconds
        head = (("X-Captcha-Ticket", ticket), ("X-Captcha-Randstr", "@r"))
        peer = f"203.0.113.{number}"
        codes.append(through_flow(guard, Exchange(headers=head, peer=peer)).code)
    assert codes == ["allowed"] + ["disaster_ticket"] * 6


# -- Events about the service ------


def test_each_change_of_the_state_is_an_event_for_each_rule_of_the_verifier(monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.health.monitor.APART", 0.0)
    verifier, events = FakeVerifier(), []
    rules = ["POST /login", Rule("/admin", name="admin"), Rule("/own", verifier=FakeVerifier())]
    guard = Guard(rules, verifier, on_event=events.append)
    health = rule_of(guard).health
    verifier.is_up = False
    run(rule_of(guard), {Verify: OutageError("down")})
    for _ in range(2):
        health.probe_now()
    verifier.is_up = True
    health.probe_now()
    guard.close()
    changes = [event for event in events if event.outcome == "health"]
    names = ("POST /login", "admin")
    assert changes == [
        Event(name, "health", state, None, 0.0)
        for state in ("suspect", "down", "up")
        for name in names
    ]
