"""Breaker, bulkhead and budget: arithmetic with the clock as an argument."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import OutageError, ThrottledError, VerifierError
from tcaptcha_middleware.effects import Pause
from tcaptcha_middleware.resilience.limits import Breaker, Budget, Bulkhead
from tcaptcha_middleware.resilience.upstream import FAILURES, Upstream


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(failures=3, pause=10)
    for _ in range(3):
        breaker.failed(now)
    return breaker


def test_a_breaker_opens_after_so_many_failures_in_a_row():
    breaker = Breaker(failures=3, pause=10)
    for _ in range(2):
        breaker.failed(0)
    breaker.succeeded()
    breaker.failed(0)
    assert breaker.admits(0)
    assert not breaker.is_open
    assert opened().is_open


def test_an_open_breaker_lets_one_probe_through_in_each_pause():
    breaker = opened()
    times = [0, 9.9, 10, 10, 15, 19.9, 20, 20]
    expected = [False, False, True, False, False, False, True, False]
    assert [breaker.admits(now) for now in times] == expected


def test_a_probe_that_succeeds_closes_it_and_one_that_fails_does_not():
    breaker = opened()
    assert breaker.admits(10)
    breaker.failed(11)
    assert not breaker.admits(20.9)
    assert breaker.admits(21)
    breaker.succeeded()
    assert [breaker.admits(21), breaker.admits(21)] == [True, True]


def test_only_one_thread_gets_the_probe():
    breaker, admitted = opened(), []
    threads = [
        threading.Thread(target=lambda: admitted.append(breaker.admits(10))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(admitted) == 1


def test_a_bulkhead_has_so_many_places():
    bulkhead = Bulkhead(2)
    assert [bulkhead.enter() for _ in range(3)] == [True, True, False]
    bulkhead.leave()
    assert bulkhead.enter()


def test_a_budget_is_refilled_evenly():
    budget = Budget(per_minute=2)
    times = [0, 0, 0, 29, 30, 30, 1000, 1000, 1000]
    expected = [True, True, False, False, True, False, True, True, False]
    assert [budget.spend(now) for now in times] == expected


@given(st.lists(st.floats(0, 60), max_size=50))
def test_a_budget_is_never_overdrawn_within_a_minute(times):
    budget = Budget(per_minute=5)
    assert sum(budget.spend(now) for now in sorted(times)) <= 2 * 5


def test_a_clock_that_goes_back_refills_nothing():
    budget = Budget(per_minute=1)
    assert [budget.spend(now) for now in (100, 0, 50)] == [True, False, False]


def fail(upstream: Upstream, error: Exception) -> None:
    with pytest.raises(type(error)), upstream:
        raise error


def test_outages_alone_close_an_upstream():
    upstream = Upstream(1)
    for _ in range(FAILURES):
        for error in (OutageError("down"), VerifierError("what?"), ThrottledError("slow")):
            fail(upstream, error)
    assert not upstream.is_down
    for _ in range(FAILURES):
        fail(upstream, OutageError("down"))
    assert upstream.is_down
    with pytest.raises(OutageError, match="not called"), upstream:
        raise AssertionError


class TerseError(ThrottledError):
    """A child that passes nothing on."""

    def __init__(self):
        pass


def test_a_child_of_the_errors_may_be_terse():
    upstream = Upstream(1)
    fail(upstream, TerseError())
    assert (str(TerseError()), TerseError().answered, TerseError().request_id) == ("", True, "")


UNANSWERED = {
    "a bug": ZeroDivisionError(),
    "no key": VerifierError("no key", answered=False),
    "no file": ThrottledError("no file", answered=False),
}


@pytest.mark.parametrize("error", UNANSWERED.values(), ids=UNANSWERED)
def test_what_nobody_answered_says_nothing_about_the_upstream(error):
    upstream = Upstream(1)
    for _ in range(FAILURES - 1):
        fail(upstream, OutageError("down"))
    fail(upstream, error)
    assert not upstream.is_down
    fail(upstream, OutageError("down"))
    assert upstream.is_down


def test_who_finds_no_place_waits_a_little_and_is_then_sent_away(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(
        "tcaptcha_middleware.resilience.upstream.time.monotonic", lambda: now[0]
    )
    upstream = Upstream(1)
    assert list(upstream.queue()) == []
    steps = []

    def wait():
        for step in upstream.queue():
            steps.append(step)
            now[0] += step.seconds

    with pytest.raises(ThrottledError):
        wait()
    assert {(type(step), step.seconds) for step in steps} == {(Pause, 0.01)}
    assert sum(step.seconds for step in steps) == pytest.approx(0.5, abs=0.02)
    waiting = upstream.queue()
    next(waiting)
    upstream.places.leave()
    assert list(waiting) == []
