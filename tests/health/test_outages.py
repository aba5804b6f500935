"""Only an established outage opens the gate, and only on request: the docs' table, by row."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

import pytest
from adapters import RUNNERS, Exchange, through_flow
from outages import bring

from tcaptcha_middleware import (
    CaptchaInfo,
    ConfigurationError,
    Guard,
    MisconfiguredError,
    OutageError,
    ReplayStoreError,
    Rule,
    ThrottledError,
    Unchecked,
    Verdict,
    VerifierError,
    scoped,
)
from tcaptcha_middleware.health.health import Health
from tcaptcha_middleware.health.limits import Budget
from tcaptcha_middleware.testing import FakeVerifier

DOC = (Path(__file__).parents[2] / "docs/when-tencent-is-down.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOC.splitlines()
    if re.match(r"\| (ordinary|missing|disaster) ", line)
]
APP_ID = 190000000
ANSWERS = {
    "passed": 1,
    "rejected": 7,
    "malicious": Verdict(1, evil_level=100),
    "wrong keys": MisconfiguredError("keys"),
    "untrusted certificate": MisconfiguredError("certificate verify failed", answered=False),
    "throttled": ThrottledError("slow down"),
    "no free file": ThrottledError("no file is free", answered=False, sent=False),
    "unreadable answer": VerifierError("what?", answered=False),
    "name not resolved": VerifierError("no such name", answered=False, sent=False),
    "no answer": TimeoutError("down"),
    "code 26": 26,
}
STATES = ("up", "suspect", "down")
POLICIES = ("deny", "allow")
CASES = list(
    itertools.product(("ordinary", "missing", "disaster"), ANSWERS, STATES, POLICIES, POLICIES)
)
every_runner = pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)


def ticket(text: str, number: int = 0) -> Exchange:
    head = (("X-Captcha-Ticket", text), ("X-Captcha-Randstr", f"@{number}"))
    return Exchange(headers=head, peer=f"203.0.113.{number}")


def disaster(app_id: int = APP_ID, age: int = 0, start: str = "trerror_1001") -> str:
    return f"{start}_{app_id}_{int(time.time()) - age}"


SENT = {
    "ordinary": lambda: ticket("tr03good", 99),
    "missing": Exchange,
    "disaster": lambda: ticket(disaster(), 99),
}


class Nameless:
    """A verifier that does not declare its captcha."""

    def verify(self, ticket):
        raise AssertionError


def guard_of(answer: object, state: str, **settings: object) -> Guard:
    guard = Guard(["POST /login"], FakeVerifier(answer), **settings)
    bring(guard, state)
    return guard


def described(outcome) -> str:
    if outcome.code != "allowed":
        return f"{outcome.status} `{outcome.code}`"
    return "let in unchecked" if outcome.unchecked else "let in"


def rows_of(case):
    return [
        row
        for row in ROWS
        if all(
            cell == "any" or value in cell.split(", ")
            for cell, value in zip(row, case, strict=False)
        )
    ]


@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_every_case_has_one_row_in_the_outage_table(case):
    assert len(rows_of(case)) == 1


@every_runner
@pytest.mark.parametrize("case", CASES, ids=", ".join)
def test_every_row_of_the_outage_table_is_true(case, runner):
    kind, answer, state, on_unavailable, disaster_tickets = case
    guard = guard_of(
        ANSWERS[answer],
        state,
        on_unavailable=on_unavailable,
        disaster_tickets=disaster_tickets,
        allow_per_minute=100,
    )
    assert described(runner(guard, SENT[kind]())) == rows_of(case)[0][-1]


def test_every_row_of_the_outage_table_is_a_case():
    assert all(any(row in rows_of(case) for case in CASES) for row in ROWS)


@every_runner
def test_a_failed_verification_never_lets_its_own_visitor_in(runner):
    guard = Guard(["POST /login"], FakeVerifier(OutageError("down")), on_unavailable="allow")
    bring(guard, "suspect")
    codes = [runner(guard, ticket("tr03new", number)).code for number in range(12)]
    assert codes == ["verifier_unavailable"] * 12


@every_runner
def test_nothing_is_verified_while_the_state_is_down(runner):
    guard = guard_of(1, "down", on_unavailable="allow", disaster_tickets="allow")
    for number, text in enumerate(("tr03good", disaster())):
        assert runner(guard, ticket(text, number)).code == "allowed"
    assert guard.verifier.tickets == []


@every_runner
def test_a_refused_ticket_is_still_valid_after_the_outage(runner):
    guard = guard_of(1, "down")
    assert runner(guard, ticket("tr03good")).code == "verifier_unavailable"
    bring(guard, "up")
    assert runner(guard, ticket("tr03good")).code == "allowed"


def test_the_state_of_each_rule_is_shown():
    guard = Guard(["POST /login", "POST /admin"], FakeVerifier())
    assert guard.health == {"POST /login": "up", "POST /admin": "up"}
    bring(guard, "down")
    assert guard.health == {"POST /login": "down", "POST /admin": "down"}


@every_runner
def test_a_refusal_has_a_retry_after_header(runner):
    guard = guard_of(1, "down")
    rule = guard.match("POST", "/login")
    decisions = []
    object.__setattr__(rule.shared, "on_event", decisions.append)
    runner(guard, ticket("tr03good"))
    assert decisions[0].decision.retry_after == rule.health.retry_after


@pytest.mark.parametrize("start", ["trerror_1001", "terror_1006"])
def test_both_spellings_of_a_disaster_ticket_count_during_an_outage(start):
    guard = guard_of(1, "down", disaster_tickets="allow")
    outcome = through_flow(guard, ticket(disaster(start=start), 99))
    assert outcome.unchecked is Unchecked.DISASTER_TICKET


@every_runner
def test_a_disaster_ticket_alone_leads_to_a_probe(runner):
    guard = Guard(["POST /login"], FakeVerifier(), disaster_tickets="allow")
    clock = bring(guard, "up")
    clock.now += 10
    assert runner(guard, ticket(disaster(), 1)).code == "disaster_ticket"
    assert len(clock.probing) == 1


INCREDIBLE = {
    "another captcha's": lambda: disaster(app_id=1),
    "old": lambda: disaster(age=400),
    "from the future": lambda: disaster(age=-400),
    "upper case": lambda: disaster().upper(),
    "no underscore": lambda: f"terror_1001_{APP_ID}{int(time.time())}",
    "a tail": lambda: disaster() + "x",
    "no code": lambda: f"trerror_{APP_ID}_{int(time.time())}",
    "other digits": lambda: disaster().replace("1001", "\u0661\u0660\u0660\u0661"),
}


@pytest.mark.parametrize("make", INCREDIBLE.values(), ids=INCREDIBLE)
def test_any_other_disaster_ticket_never_counts(make):
    guard = guard_of(1, "down", disaster_tickets="allow")
    sent = ticket(make().encode().decode("latin-1"), 99)
    assert through_flow(guard, sent).status in (400, 403)


def test_a_disaster_ticket_counts_once_and_one_a_minute_from_an_address():
    guard = guard_of(1, "down", disaster_tickets="allow")
    first, again = ticket(disaster(), 98), ticket(disaster(age=1), 98)
    assert through_flow(guard, first).code == "allowed"
    assert through_flow(guard, again).code == "disaster_ticket"
    replay = Exchange(headers=first.headers, peer="203.0.113.97")
    assert through_flow(guard, replay).code == "disaster_ticket"


def test_a_full_memory_of_disaster_tickets_accepts_none():
    guard = guard_of(1, "down", disaster_tickets="allow")
    seen = guard.match("POST", "/login").disaster_seen
    object.__setattr__(seen, "_capacity", 1)
    codes = [through_flow(guard, ticket(disaster(age=n), n)).code for n in range(2)]
    assert codes == ["allowed", "disaster_ticket"]


@every_runner
def test_the_fail_open_budget_limits_visitors_and_is_logged(runner, caplog):
    guard = guard_of(1, "down", on_unavailable="allow", allow_per_minute=2)
    caplog.clear()
    codes = [runner(guard, ticket("tr03x", n)).code for n in range(10, 13)]
    assert codes == ["allowed", "allowed", "verifier_unavailable"]
    loud = [r for r in caplog.records if "LET THROUGH UNCHECKED" in r.message]
    assert [record.levelname for record in loud] == ["ERROR"]
    assert "the 2 a minute are spent" in caplog.text


def test_a_disaster_ticket_counts_against_the_budget():
    guard = guard_of(1, "down", disaster_tickets="allow", allow_per_minute=1)
    codes = [through_flow(guard, ticket(disaster(), n)).code for n in range(10, 12)]
    assert codes == ["allowed", "disaster_ticket"]


class FailingStore:
    """A replay store that can be switched to failing."""

    is_up = True

    def claim(self, key, token, seconds):
        if self.is_up:
            return True
        raise ReplayStoreError("down")

    async def aclaim(self, key, token, seconds):
        return self.claim(key, token, seconds)

    def release(self, key, token):
        raise ReplayStoreError("down")

    async def arelease(self, key, token):
        self.release(key, token)


@every_runner
def test_a_store_that_is_down_is_not_an_outage(runner):
    store = FailingStore()
    guard = Guard(
        ["POST /login"], FakeVerifier(), replay_store=store, on_replay_store_error="deny"
    )
    store.is_up = False
    assert runner(guard, ticket("tr03new")).code == "verifier_unavailable"
    assert guard.health == {"POST /login": "up"}


def test_a_rule_may_fail_open_if_the_guard_does_not():
    guard = Guard([Rule("POST /login", on_unavailable="allow"), "POST /admin"], FakeVerifier())
    bring(guard, "down")
    assert through_flow(guard, ticket("tr03a")).code == "allowed"
    head = ticket("tr03b").headers
    assert through_flow(guard, Exchange(target="/admin", headers=head)).status == 503


def test_rules_that_share_a_verifier_share_its_health():
    verifier = FakeVerifier()
    guard = Guard(["POST /login", "POST /admin"], verifier)
    verifier.is_up = False
    through_flow(guard, ticket("tr03a"))
    assert guard.health == {"POST /login": "suspect", "POST /admin": "suspect"}
    guard.match("POST", "/login").health.close()


def test_a_bad_ticket_is_refused_during_an_outage_too():
    guard = guard_of(1, "down", on_unavailable="allow", disaster_tickets="allow")
    assert through_flow(guard, ticket("a b")).code == "ticket_malformed"


class Unsent(FakeVerifier):
    """A verifier whose first call does not leave this machine."""

    def verify(self, ticket):
        if not self.tickets:
            self.tickets.append(ticket)
            raise VerifierError("no such name", answered=False, sent=False)
        return super().verify(ticket)


@every_runner
def test_a_ticket_that_was_not_sent_is_not_spent(runner):
    guard = Guard(["POST /login"], Unsent())
    codes = [runner(guard, ticket("tr03a")).code for _ in range(2)]
    assert codes == ["verifier_unavailable", "allowed"]


def test_a_claim_whose_answer_is_late_is_released_after_a_later_claim():
    times = iter(itertools.count())  # a second for each look at the clock
    store = LostAnswer()
    guard = Guard(
        ["POST /login"], FakeVerifier(), replay_store=store, on_replay_store_error="deny"
    )
    object.__setattr__(
        guard.match("POST", "/login").shared, "clock", lambda: float(next(times))
    )
    tickets = [ticket(f"tr03{name}") for name in "aba"]
    codes = [through_flow(guard, each).code for each in tickets]
    assert codes == ["verifier_unavailable", "allowed", "allowed"]


def test_a_claim_that_a_skipped_store_never_saw_is_not_released():
    store = LostAnswer()
    guard = Guard(
        ["POST /login"], FakeVerifier(), replay_store=store, on_replay_store_error="deny"
    )
    shared = guard.match("POST", "/login").shared
    for _ in range(3):
        shared.replay_monitor.failed(shared.clock())
    assert through_flow(guard, ticket("tr03a")).code == "verifier_unavailable"
    assert (store.claims, list(shared.unreleased)) == ({}, [])


@every_runner
def test_a_ticket_that_may_have_been_sent_is_spent(runner):
    guard = Guard(["POST /login"], FakeVerifier(VerifierError("lost"), 1))
    codes = [runner(guard, ticket("tr03a")).code for _ in range(2)]
    assert codes == ["verifier_unavailable", "ticket_reused"]


@every_runner
def test_a_claim_that_cannot_be_released_costs_no_500(runner, caplog):
    guard = Guard(["POST /login"], Unsent(), replay_store=FailingStore())
    assert runner(guard, ticket("tr03a")).code == "verifier_unavailable"
    assert "a claim was not released" in caplog.text


@every_runner
def test_verifications_beyond_the_limit_are_refused_and_slots_are_released(runner, monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.flow._SLOT_WAIT", 0.02)
    guard = Guard(["POST /login"], FakeVerifier(), max_checks=1)
    slots = guard.match("POST", "/login").health.slots
    assert slots.enter()
    assert runner(guard, ticket("tr03a", 1)).code == "overloaded"
    slots.leave()
    assert [runner(guard, ticket("tr03a", n)).code for n in (2, 3)] == ["allowed"] * 2


@every_runner
def test_during_an_outage_no_visitor_waits_for_a_slot(runner):
    guard = guard_of(1, "down", max_checks=1)
    assert guard.match("POST", "/login").health.slots.enter()
    assert runner(guard, ticket("tr03a", 1)).code == "verifier_unavailable"


def test_a_disaster_ticket_needs_a_verifier_that_knows_its_captcha():
    with pytest.raises(ConfigurationError, match="app_id"):
        Guard(["/a"], Nameless(), disaster_tickets="allow")


@pytest.mark.parametrize("setting", ["on_unavailable", "disaster_tickets"])
def test_failing_open_needs_a_verifier_that_can_probe(setting):
    verifier = Nameless()
    verifier.captcha = CaptchaInfo(APP_ID)
    with pytest.raises(ConfigurationError, match="probe"):
        Guard(["/a"], verifier, **{setting: "allow"})


def test_an_error_with_arguments_that_cannot_be_hashed_is_logged_and_answered(caplog):
    guard = Guard(["POST /login"], FakeVerifier(OutageError({"code": 1}, sent=False), 1))
    codes = [through_flow(guard, ticket("tr03a")).code for _ in range(2)]
    assert codes == ["verifier_unavailable", "allowed"]
    assert "no verdict: {'code': 1}" in caplog.text


class LostAnswer(FailingStore):
    """A store that makes the first claim, and loses its answer."""

    def __init__(self):
        self.claims = {}
        self.loses = True

    def claim(self, key, token, seconds):
        first = self.claims.setdefault(key, token) == token
        if self.loses:
            self.loses = False
            raise ReplayStoreError("no answer")
        return first

    def release(self, key, token):
        if self.claims.get(key) == token:
            del self.claims[key]


@every_runner
def test_a_claim_whose_answer_was_lost_is_released_because_nothing_was_sent(runner):
    store = LostAnswer()
    guard = Guard(
        ["POST /login"], FakeVerifier(), replay_store=store, on_replay_store_error="deny"
    )
    codes = [runner(guard, ticket("tr03a")).code for _ in range(2)]
    assert codes == ["verifier_unavailable", "allowed"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("no thread")], ids=repr)
def test_a_thread_that_cannot_be_started_changes_no_answer_and_is_tried_again(error):
    verifier = FakeVerifier()
    verifier.is_up = False
    started = []

    def start(run):
        started.append(run)
        raise error

    guard = Guard(["POST /login"], verifier)
    rule = guard.match("POST", "/login")
    object.__setattr__(rule, "health", Health(verifier, 8, start_thread=start))
    codes = [through_flow(guard, ticket("tr03a", number)).code for number in range(3)]
    assert codes == ["verifier_unavailable"] * 3
    assert len(started) >= 3


def test_a_budget_that_is_locked_during_a_fork_is_free_in_the_child():
    budget = Budget(1)
    with budget._lock:
        scoped._after_fork()
        assert budget.spend(0.0)
