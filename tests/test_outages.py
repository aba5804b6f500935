"""Only an outage opens the gate, and only where asked for: the docs' table, row by row."""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from adapters import RUNNERS, Exchange, by_hand

from tcaptcha_middleware import (
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
)
from tcaptcha_middleware.resilience.upstream import FAILURES, PAUSE
from tcaptcha_middleware.testing import FakeVerifier

DOC = (Path(__file__).parent.parent / "docs/when-tencent-is-down.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in DOC.splitlines()
    if re.match(r"\| (ordinary|disaster) ", line)
]
APP_ID = 190000000
SAYS = {
    "passed": 1,
    "rejected": 7,
    "malicious": Verdict(1, evil_level=100),
    "wrong keys": MisconfiguredError("keys"),
    "throttled": ThrottledError("slow down"),
    "gibberish": VerifierError("what?"),
    "nothing in time": TimeoutError("down"),
    "code 26": 26,
}
POLICIES = ("deny", "allow")
EVERY = list(
    itertools.product(("ordinary", "disaster"), SAYS, ("closed", "open"), POLICIES, POLICIES)
)


def ticket(text: str, number: int = 0) -> Exchange:
    head = (("X-Captcha-Ticket", text), ("X-Captcha-Randstr", f"@{number}"))
    return Exchange(headers=head, peer=f"203.0.113.{number}")


def disaster(app_id: int = APP_ID, age: int = 0, start: str = "trerror_1001") -> str:
    return f"{start}_{app_id}_{int(time.time()) - age}"


def later(pauses: int) -> SimpleNamespace:
    return SimpleNamespace(monotonic=lambda: time.monotonic() + pauses * (PAUSE + 1))


class Nameless:
    """A verifier that does not say which captcha it checks."""

    def verify(self, ticket):
        raise AssertionError


def guard_of(says: object, breaker: str, **settings: object) -> Guard:
    before = [OutageError("down")] * FAILURES if breaker == "open" else []
    guard = Guard(["POST /login"], FakeVerifier(*before, says), **settings)
    for number in range(len(before)):
        by_hand(guard, ticket("tr03before", number))
    return guard


def told(outcome) -> str:
    if outcome.code != "allowed":
        return f"{outcome.status} `{outcome.code}`"
    return "let in unchecked" if outcome.unchecked else "let in"


def rows_of(case):
    return [
        row for row in ROWS if all(a in ("any", b) for a, b in zip(row, case, strict=False))
    ]


@pytest.mark.parametrize("case", EVERY, ids=", ".join)
def test_every_case_has_one_row(case):
    assert len(rows_of(case)) == 1


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("case", EVERY, ids=", ".join)
def test_every_row_is_true(case, runner):
    kind, says, breaker, on_unavailable, disaster_tickets = case
    guard = guard_of(
        SAYS[says],
        breaker,
        on_unavailable=on_unavailable,
        disaster_tickets=disaster_tickets,
        allow_per_minute=100,
    )
    sent = ticket(disaster() if kind == "disaster" else "tr03good", 99)
    assert told(runner(guard, sent)) == rows_of(case)[0][-1]


def test_no_row_is_told_that_no_case_has():
    assert all(any(row in rows_of(case) for case in EVERY) for row in ROWS)


@pytest.mark.parametrize("start", ["trerror_1001", "terror_1006"])
def test_both_spellings_of_a_disaster_ticket_count_while_tencent_is_down(start):
    guard = guard_of(1, "open", disaster_tickets="allow")
    outcome = by_hand(guard, ticket(disaster(start=start), 99))
    assert outcome.unchecked is Unchecked.DISASTER_TICKET


PROBED = {
    "that it is one": (21, "disaster_ticket", 1),
    "that it passed": (1, "disaster_ticket", 1),
    "nothing": (OutageError("down"), "allowed", 2),
    "that it is busy": (26, "allowed", 2),
    "what nobody understands": (ZeroDivisionError("of trerror"), "allowed", 2),
}


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize(("says", "code", "asked"), PROBED.values(), ids=PROBED)
def test_where_a_probe_is_due_tencent_is_asked_about_a_disaster_ticket(
    runner, says, code, asked, monkeypatch
):
    guard = guard_of(says, "open", disaster_tickets="allow")
    for pauses, numbers in ((1, (96, 97)), (2, (98, 99))):
        monkeypatch.setattr("tcaptcha_middleware.resilience.upstream.time", later(pauses))
        found = [runner(guard, ticket(disaster(), number)).code for number in numbers]
        assert found == [code] * 2
    assert len(guard.verifier.tickets) == FAILURES + asked


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_where_no_probe_is_due_a_disaster_ticket_asks_nobody_and_says_one_thing(runner, caplog):
    guard = guard_of(1, "open", disaster_tickets="allow")
    caplog.clear()
    assert runner(guard, ticket(disaster(), 99)).code == "allowed"
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "LET THROUGH UNCHECKED: a disaster ticket, while Tencent is down"
    ]
    assert len(guard.verifier.tickets) == FAILURES


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_verifier_that_breaks_at_a_probe_is_told_as_it_is_and_without_the_pair(
    runner, monkeypatch, caplog
):
    text = disaster()
    broken = RuntimeError(f"cannot parse the answer for {text} and @1234")
    guard = guard_of(broken, "open", disaster_tickets="allow")
    monkeypatch.setattr("tcaptcha_middleware.resilience.upstream.time", later(1))
    caplog.clear()
    sent = Exchange(headers=(("X-Captcha-Ticket", text), ("X-Captcha-Randstr", "@1234")))
    assert runner(guard, sent).code == "allowed"
    assert "the verifier failed" in caplog.text
    assert [word for word in ("refused", text, "@1234") if word in caplog.text] == []


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
    guard = guard_of(1, "open", disaster_tickets="allow")
    sent = ticket(make().encode().decode("latin-1"), 99)
    assert by_hand(guard, sent).status in (400, 403)


def test_a_disaster_ticket_counts_once_and_one_a_minute_from_an_address():
    guard = guard_of(1, "open", disaster_tickets="allow")
    first, again = ticket(disaster(), 98), ticket(disaster(age=1), 98)
    assert by_hand(guard, first).code == "allowed"
    assert by_hand(guard, again).code == "disaster_ticket"
    replay = Exchange(headers=first.headers, peer="203.0.113.97")
    assert by_hand(guard, replay).code == "disaster_ticket"


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_whoever_is_let_in_unchecked_is_budgeted_and_told_loudly(runner, caplog):
    guard = guard_of(1, "open", on_unavailable="allow", allow_per_minute=FAILURES + 2)
    caplog.clear()
    codes = [runner(guard, ticket("tr03x", n)).code for n in range(10, 13)]
    assert codes == ["allowed", "allowed", "verifier_unavailable"]
    loud = [r for r in caplog.records if "LET THROUGH UNCHECKED" in r.message]
    assert [record.levelname for record in loud] == ["ERROR", "ERROR"]
    assert f"the {FAILURES + 2} a minute are spent" in caplog.text


def test_a_disaster_ticket_is_budgeted_too():
    guard = guard_of(1, "open", disaster_tickets="allow", allow_per_minute=1)
    codes = [by_hand(guard, ticket(disaster(), n)).code for n in range(10, 12)]
    assert codes == ["allowed", "disaster_ticket"]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_spent_ticket_tells_nothing_of_tencent(runner):
    verifier = FakeVerifier(OutageError("down"))
    guard = Guard(["POST /login"], verifier)
    for number in range(FAILURES + 1):
        runner(guard, ticket("tr03new", number))
        runner(guard, ticket("tr03new", 0))
    assert len(verifier.tickets) == FAILURES


class Unclaimable:
    """A store that is up until it is not."""

    is_up = True

    def claim(self, key, token, seconds):
        if self.is_up:
            return True
        raise ReplayStoreError("down")

    async def aclaim(self, key, token, seconds):
        return self.claim(key, token, seconds)

    def release(self, key, token):
        raise NotImplementedError

    async def arelease(self, key, token):
        raise NotImplementedError


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_store_that_is_down_tells_nothing_of_tencent(runner):
    verifier, replay_store = FakeVerifier(OutageError("down")), Unclaimable()
    guard = Guard(
        ["POST /login"], verifier, replay_store=replay_store, on_replay_store_error="deny"
    )
    for number in range(FAILURES + 1):
        for replay_store.is_up in (True, False):
            runner(guard, ticket("tr03new", number))
    assert len(verifier.tickets) == FAILURES


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_spent_ticket_takes_no_probes_turn(runner, monkeypatch):
    guard = guard_of(1, "open")
    monkeypatch.setattr("tcaptcha_middleware.resilience.upstream.time", later(1))
    codes = [runner(guard, ticket("tr03before", 0)).code, runner(guard, ticket("tr03a")).code]
    assert codes == ["ticket_reused", "allowed"]


def test_a_rule_may_open_what_the_guard_keeps_shut():
    down = FakeVerifier(OutageError("down"))
    guard = Guard([Rule("POST /login", on_unavailable="allow"), "POST /admin"], down)
    assert by_hand(guard, ticket("tr03a")).code == "allowed"
    head = ticket("tr03b").headers
    assert by_hand(guard, Exchange(target="/admin", headers=head)).status == 503


def test_rules_that_share_a_verifier_share_its_health():
    verifier = FakeVerifier(OutageError("down"))
    guard = Guard(["POST /login", "POST /admin"], verifier)
    for number in range(FAILURES):
        by_hand(guard, ticket("tr03a", number))
    head = ticket("tr03b").headers
    assert by_hand(guard, Exchange(target="/admin", headers=head)).status == 503
    assert len(verifier.tickets) == FAILURES


def test_a_missing_or_bad_ticket_is_refused_all_the_same():
    guard = guard_of(1, "open", on_unavailable="allow", disaster_tickets="allow")
    assert by_hand(guard, Exchange()).code == "ticket_missing"
    assert by_hand(guard, ticket("a b")).code == "ticket_malformed"


def test_a_ticket_whose_check_was_not_answered_is_spent():
    guard = Guard(["POST /login"], FakeVerifier(OutageError("lost"), 1))
    codes = [by_hand(guard, ticket("tr03a")).code for _ in range(2)]
    assert codes == ["verifier_unavailable", "ticket_reused"]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_too_many_checks_at_once_are_sent_away_and_places_are_given_back(runner, monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.resilience.upstream.QUEUE", 0.02)
    guard = Guard(["POST /login"], FakeVerifier(), max_checks=1)
    upstream = guard.match("POST", "/login").upstream
    assert list(upstream.queue()) == []
    assert runner(guard, ticket("tr03a", 1)).code == "overloaded"
    upstream.places.leave()
    assert [runner(guard, ticket("tr03a", n)).code for n in (2, 3)] == ["allowed"] * 2


def test_a_disaster_ticket_needs_a_verifier_that_knows_its_captcha():
    with pytest.raises(ConfigurationError, match="app_id"):
        Guard(["/a"], Nameless(), disaster_tickets="allow")
