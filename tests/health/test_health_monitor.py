"""The state machine of the health component, by table, on a simulated clock."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tcaptcha_middleware import (
    MisconfiguredError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.health.limits import Slots
from tcaptcha_middleware.health.monitor import Monitor, State, Warn

UP, SUSPECT, DOWN = State


class Script:
    """A monitor, its clock, and the steps of a script: `"<seconds> <step>"`."""

    def __init__(self, *steps: str) -> None:
        self.now, self.reactions = 0.0, 0
        self.slots = Slots(256)
        self.monitor = Monitor(self.slots, self.react, lambda: self.now, lambda low, high: low)
        self.run(*steps)

    def react(self) -> None:
        self.reactions += 1

    def run(self, *steps: str) -> Script:
        for step in steps:
            seconds, _, name = step.partition(" ")
            self.now = float(seconds)
            getattr(self, name.replace(" ", "_"))()
        return self

    def end(self, error: BaseException | None) -> None:
        self.monitor.__exit__(type(error), error, None)

    def begins(self):
        self.monitor.__enter__()

    def answered(self):
        self.end(None)

    def fails(self):
        self.end(OutageError("down"))

    def times_out(self):
        self.end(TimeoutError())

    def cancelled(self):
        self.end(asyncio.CancelledError())

    def breaks(self):
        self.end(ZeroDivisionError())

    def ticket(self):
        self.monitor.request_probe()

    def probe(self):
        self.monitor.probe_began()

    def probe_answered(self):
        self.monitor.probe_answered()

    def probe_fails(self):
        self.monitor.probe_failed("refused", connected=False)

    def probe_fails_connected(self):
        self.monitor.probe_failed("reset", connected=True)

    def probe_void(self):
        self.monitor.probe_void()

    def look(self):
        assert self.monitor.state in State

    @property
    def state(self) -> State:
        return self.monitor.state


SUSPECTED = ("0 begins", "0 fails")
FIRST = (*SUSPECTED, "0 probe", "0.1 probe fails")
OUTAGE = (*FIRST, "1 probe", "1.1 probe fails")
ANSWERED_DURING_PROBE = ("0 ticket", "0 probe", "0 begins", "1 answered")
STATES = {
    "nothing happened": ((), UP),
    "a verification was answered": (("0 begins", "0 answered"), UP),
    "a verification failed": (SUSPECTED, SUSPECT),
    "a verification took too long": (("0 begins", "5 times out"), SUSPECT),
    "many verifications failed": (SUSPECTED * 50, SUSPECT),
    "an answer after a failure": ((*SUSPECTED, "0 begins", "1 answered"), UP),
    "a probe was answered": ((*SUSPECTED, "0 probe", "1 probe answered"), UP),
    "a probe was void": ((*SUSPECTED, "0 probe", "1 probe void"), SUSPECT),
    "one probe failed": (FIRST, SUSPECT),
    "one probe failed, which a ticket requested": (
        ("0 ticket", "0 probe", "2 probe fails"),
        SUSPECT,
    ),
    "two probes failed": (OUTAGE, DOWN),
    "two probes failed at nearly the same time": (
        (*FIRST, "0.7 probe", "0.8 probe fails"),
        SUSPECT,
    ),
    "two probes failed, the second slowly": ((*FIRST, "0.8 probe", "2.3 probe fails"), DOWN),
    "two probes failed around a void one": (
        (*FIRST, "1 probe", "3 probe void", "4 probe", "5 probe fails"),
        DOWN,
    ),
    "two probes failed too far apart": ((*FIRST, "31 probe", "31.1 probe fails"), SUSPECT),
    "three probes failed, the first too early": (
        (*FIRST, "31 probe", "31.1 probe fails", "32 probe", "32.1 probe fails"),
        DOWN,
    ),
    "a verification was answered between two failed probes": (
        (*FIRST, "0.2 begins", "0.3 answered", "1 probe", "1.1 probe fails"),
        SUSPECT,
    ),
    "a verification was answered during the first failed probe": (
        (*ANSWERED_DURING_PROBE, "2 probe fails", "2 probe", "3 probe fails"),
        SUSPECT,
    ),
    "a probe was answered between two failed ones": (
        (*FIRST, "1 probe", "1.1 probe answered", "2 probe", "2.1 probe fails"),
        SUSPECT,
    ),
    "a verification that began before the outage was answered": (
        ("0 begins", *OUTAGE, "2 answered"),
        UP,
    ),
    "a probe that was left behind was answered": ((*OUTAGE, "4 probe answered"), UP),
    "a verification failed while down": (("0 begins", *OUTAGE, "2 fails"), DOWN),
    "a void probe while down": ((*OUTAGE, "2 probe", "3 probe void"), DOWN),
    "the evidence is nearly old": ((*OUTAGE, "5.6 look"), DOWN),
    "the evidence is old": ((*OUTAGE, "5.8 look"), SUSPECT),
    "the evidence was old and is fresh": (
        (*OUTAGE, "6 probe", "6.1 probe fails", "10 look"),
        DOWN,
    ),
    "the process was stopped while down": ((*OUTAGE, "99 probe", "99 probe fails"), SUSPECT),
    "a second outage": (
        (*OUTAGE, "2 probe", "2 probe answered", "3 probe", "3 probe fails"),
        SUSPECT,
    ),
}


@pytest.mark.parametrize(("steps", "state"), STATES.values(), ids=STATES)
def test_the_state_follows_from_verifications_and_probes(steps, state):
    assert Script(*steps).state is state


ERRORS = {
    "an outage": (OutageError("down"), SUSPECT, False),
    "a deadline": (TimeoutError(), SUSPECT, False),
    "throttled by the service": (ThrottledError("slow down"), UP, True),
    "a revoked key": (MisconfiguredError("key"), UP, True),
    "an unreadable answer": (VerifierError("what?"), UP, True),
    "no files": (ThrottledError("files", answered=False), UP, False),
    "no key": (MisconfiguredError("key", answered=False), UP, False),
    "DNS": (VerifierError("no such name", answered=False), UP, False),
    "a bug": (ZeroDivisionError(), UP, False),
    "cancellation": (asyncio.CancelledError(), UP, False),
    "the client has gone": (GeneratorExit(), UP, False),
}


@pytest.mark.parametrize(("error", "state", "_"), ERRORS.values(), ids=ERRORS)
def test_only_an_outage_or_a_timeout_changes_the_state_to_suspect(error, state, _):
    script = Script("0 begins")
    with pytest.raises(type(error)), script.monitor:
        raise error
    assert script.state is state
    assert script.monitor.under_way == 1


@pytest.mark.parametrize(("error", "_", "answers"), ERRORS.values(), ids=ERRORS)
def test_only_an_answer_makes_the_state_up(error, _, answers):
    script = Script(*OUTAGE, "1 begins")
    script.end(error)
    assert script.state is (UP if answers else DOWN)


# -- When probes run ------

VOID_PROBES = ["0 probe", "0 probe void"] * 2000
DELAYS = {
    "nothing to find out": ((), None),
    "after a failed verification": (SUSPECTED, 0),
    "after an answer": ((*SUSPECTED, "0 begins", "1 answered"), None),
    "a second later": ((*FIRST, "0.3 look"), 0.7),
    "an answered probe": ((*FIRST, "1 probe", "1.1 probe answered"), None),
    "the next failure after an answered probe": (
        ("0 begins", *SUSPECTED, "0 probe", "0.1 probe answered", "0.4 fails"),
        0.6,
    ),
    "after a void probe": ((*SUSPECTED, "0 probe", "0.1 probe void"), 0.9),
    "after two void probes": (
        (*SUSPECTED, "0 probe", "0.1 probe void", "1 probe", "1.1 probe void"),
        1.9,
    ),
    "after many void probes": ((*SUSPECTED, *VOID_PROBES), 10),
    "an answer ends the waiting for void probes": (
        (*SUSPECTED, *VOID_PROBES, "1 begins", "1 begins", "1 answered", "1.1 fails"),
        1.5,
    ),
    "a ticket": (("0 ticket",), 0),
    "a ticket just after an answer": (("0 begins", "0 answered", "0.7 ticket"), None),
    "a ticket some time after an answer": (("0 begins", "0 answered", "0.8 ticket"), 0),
    "a ticket, then an answer": (("0 begins", "0 ticket", "0 answered"), None),
    "a ticket whose probe was void": (("0 ticket", "0 probe", "0 probe void"), 1),
    "a second verification": (("0 begins", "0.7 begins"), None),
    "a second verification, nothing answered for 0.7 s": (("0 begins", "0.8 begins"), 0),
    "a second verification soon after an answer": (
        ("0 begins", "0 begins", "5 answered", "5.6 begins"),
        None,
    ),
    "a first verification after a long time": (("0 begins", "0 answered", "9 begins"), None),
    "a visitor 120 s ago": ((*SUSPECTED, "120 probe", "120 probe fails"), 1),
    "no visitor for 120 s": ((*SUSPECTED, "120.1 probe", "120.2 probe fails"), None),
    "the state was read 120 s ago": ((*SUSPECTED, "119 look", "238 probe void"), 0),
}


@pytest.mark.parametrize(("steps", "delay"), DELAYS.values(), ids=DELAYS)
def test_probes_run_while_the_state_is_uncertain(steps, delay):
    until = Script(*steps).monitor.until_probe()
    assert until == (None if delay is None else pytest.approx(delay))


def test_a_probe_has_two_seconds_and_less_after_one_that_failed():
    script = Script(*SUSPECTED)
    assert script.monitor.probe_began() == 2.0
    script.run("2 probe fails")
    assert script.monitor.probe_began() == 1.5
    script.run("3 probe answered")
    assert script.monitor.probe_began() == 2.0


def test_the_next_probe_begins_after_a_random_time():
    monitor = Monitor(Slots(1), lambda: None, lambda: 0.0)
    with pytest.raises(OutageError), monitor:
        raise OutageError("down")
    delays = set()
    for _ in range(100):
        monitor.probe_began()
        delays.add(monitor.until_probe())
    assert 1.0 <= min(delays) < 1.1
    assert 1.5 < max(delays) <= 1.6


def test_one_caller_has_to_start_a_thread_and_only_if_one_is_needed():
    script = Script()
    monitor = script.monitor
    assert not monitor.claim_thread()
    script.run(*SUSPECTED)
    assert [monitor.claim_thread() for _ in range(3)] == [True, False, False]
    monitor.thread_ended()
    assert monitor.claim_thread()
    script.run("1 probe", "1 probe answered")
    assert monitor.until_probe() is None
    script.run("2 begins", "2 fails")
    assert monitor.claim_thread()


def test_after_close_the_thread_ends_and_the_next_visitor_starts_it_again():
    script = Script(*SUSPECTED)
    assert script.monitor.claim_thread()
    script.monitor.close()
    assert script.monitor.until_probe() is None
    script.run("1 begins")
    assert script.monitor.claim_thread()
    assert script.monitor.until_probe() == 0


RETRY_AFTER = {
    "up": ((), 1),
    "a verification failed": (SUSPECTED, 1),
    "a probe runs": ((*SUSPECTED, "0 probe", "1.9 look"), 1),
    "the next probe in 0.4 s": ((*OUTAGE, "1.6 look"), 1),
    "the next probe in 0.9 s": (OUTAGE, 2),
    "the next probe in 7.9 s": ((*SUSPECTED, *["0 probe", "0 probe void"] * 4, "0.1 look"), 9),
}


@pytest.mark.parametrize(("steps", "seconds"), RETRY_AFTER.values(), ids=RETRY_AFTER)
def test_retry_after_says_when_a_probe_can_have_been_answered(steps, seconds):
    assert Script(*steps).monitor.retry_after == seconds


# -- Our own load ------


def loaded(number: int, *steps: str) -> Script:
    return Script(*["0 begins"] * number, "0 ticket", *steps)


BUSY = {
    "8 under way": (8, ("0 probe", "2 probe fails connected"), SUSPECT, 8),
    "9 under way": (9, ("0 probe", "2 probe fails connected"), UP, 1),
    "9 under way, and no connection": (9, ("0 probe", "2 probe fails"), SUSPECT, 8),
    "9 under way, and a prompt failure": (9, ("0 probe", "1 probe fails connected"), UP, 1),
    "8 when it began": (8, ("0 probe", "1 begins", "2 probe fails connected"), UP, 1),
    "9 when it began": (9, ("0 probe", "1 cancelled", "2 probe fails connected"), UP, 1),
    "10, and one was answered": (
        10,
        ("0 probe", "1 answered", "1 ticket", "2 probe fails connected"),
        UP,
        8,
    ),
    "9 given up before, and no answer": (
        9,
        (*["1 cancelled"] * 9, "10.9 probe", "12 probe fails connected"),
        UP,
        1,
    ),
    "9 given up before, and a prompt failure": (
        9,
        (*["1 cancelled"] * 9, "5 probe", "6 probe fails connected"),
        SUSPECT,
        8,
    ),
    "9 given up long before": (
        9,
        (*["1 cancelled"] * 9, "31 probe", "33 probe fails connected"),
        SUSPECT,
        8,
    ),
    "9 that never left this process": (
        9,
        (*["1 breaks"] * 9, "5 probe", "7 probe fails connected"),
        SUSPECT,
        8,
    ),
}


@pytest.mark.parametrize(("number", "steps", "state", "limit"), BUSY.values(), ids=BUSY)
def test_a_probe_that_may_have_waited_behind_our_own_load_proves_nothing(
    number, steps, state, limit
):
    script = loaded(number, *steps)
    assert script.state is state
    assert script.slots.limit == limit


def test_verifications_that_timed_out_are_load_too():
    script = loaded(9, *["1 times out"] * 9, "5 probe", "7 probe fails connected")
    script.run("7 probe", "8.5 probe fails connected")
    assert script.state is SUSPECT
    script.run("31 probe", "33 probe fails connected", "33 probe", "35 probe fails connected")
    assert script.state is DOWN


def test_the_limit_is_lower_while_the_service_is_not_known_to_be_up():
    script, recovery = Script(), ("2 probe", "2.1 probe answered")
    periods = (SUSPECTED, OUTAGE[2:], recovery)
    assert [script.run(*steps).slots.limit for steps in periods] == [8, 8, 64]


def test_timeouts_under_load_halve_the_limit_and_answers_let_it_grow():
    script = Script(*["0 begins"] * 64, *["5 times out"] * 3)
    assert script.slots.limit == 8
    assert script.run("5 answered").slots.limit == 32
    script.run(*["5 answered"] * 32, *["5 begins"] * 64, "6 times out", "6 answered")
    assert script.slots.limit == 16
    script.run(*["6 begins", "6 answered"] * 1500)
    assert script.slots.limit == 57
    script.run(*["6 begins", "6 answered"] * 500)
    assert script.slots.limit == 64
    assert not script.slots.is_cut


class WrappedError(OutageError):
    """An outage that a timeout led to."""

    def __init__(self):
        super().__init__("took too long")
        self.__cause__ = TimeoutError()


@pytest.mark.parametrize(
    ("number", "error", "limit"),
    [
        (64, TimeoutError(), 32),
        (64, WrappedError(), 32),
        (64, OutageError("too late", timed_out=True), 32),
        (64, OutageError("reset"), 64),
        (8, TimeoutError(), 64),
    ],
)
def test_only_a_timeout_under_load_halves_the_limit(number, error, limit):
    script = Script(*["0 begins"] * number)
    script.end(error)
    assert script.run("1 answered").slots.limit == limit


# -- What is reported ------


def test_each_change_is_noticed_once():
    script = Script(
        *SUSPECTED, *OUTAGE, "2 probe", "2 probe fails", "3 probe", "3 probe answered"
    )
    assert list(script.monitor.notices) == [(UP, SUSPECT), (SUSPECT, DOWN), (DOWN, UP)]


def test_old_evidence_is_noticed_at_the_next_event():
    script = Script(*OUTAGE, "9 begins", "9 fails", "9 probe", "9 probe fails")
    assert list(script.monitor.notices)[2:] == [(DOWN, SUSPECT), (SUSPECT, DOWN)]


def test_an_answer_while_up_and_an_unclear_failure_change_nothing():
    script = Script("0 begins", "0 answered", "1 begins")
    script.end(ZeroDivisionError())
    assert script.reactions == 0


WARNED = {
    "the thread did not begin": (("2.1 begins", "9 begins"), True),
    "the thread may yet begin": (("1.9 begins",), False),
    "the probe did not end": (("1 probe", "5.1 begins"), True),
    "the probe may yet end": (("1 probe", "4.9 begins"), False),
    "the probe ended": (("1 probe", "2 probe void", "9 begins"), False),
    "the thread ended": (("1 answered", "1 thread ends", "9 begins"), False),
}


@pytest.mark.parametrize(("steps", "warned"), WARNED.values(), ids=WARNED)
def test_a_thread_that_does_not_run_is_reported_once(steps, warned, monkeypatch):
    def thread_ends(script):
        assert script.monitor.until_probe() is None

    monkeypatch.setattr(Script, "thread_ends", thread_ends, raising=False)
    script = Script("0 begins", *SUSPECTED)
    assert script.monitor.claim_thread()
    assert list(script.run(*steps).monitor.notices).count(Warn.NO_THREADS) == warned


def test_a_thread_that_waits_for_its_turn_is_not_reported():
    script = Script("0 ticket", "0 probe", "0 probe answered", "0 begins", "0 fails")
    assert script.monitor.claim_thread()
    script.run("2.9 begins")
    assert Warn.NO_THREADS not in script.monitor.notices
    script.run("3.1 begins")
    assert Warn.NO_THREADS in script.monitor.notices


ROUND = ("begins", "fails", "probe", "probe answered")
FAILING = [f"{second} {step}" for second in range(15) for step in ROUND]
ONLY_PROBES = {
    "for long": (FAILING, 1),
    "for 9 s": (FAILING[:40], 0),
    "with an answer in between": ([*FAILING[:20], "5 begins", "5 answered", *FAILING[20:]], 0),
    "again after an answer": (
        [*FAILING, "20 begins", "20 answered"]
        + [f"{second} {step}" for second in range(30, 45) for step in ROUND],
        2,
    ),
    "without probes": ([step for step in FAILING if "probe" not in step], 0),
}


@pytest.mark.parametrize(("steps", "warnings"), ONLY_PROBES.values(), ids=ONLY_PROBES)
def test_answered_probes_beside_failed_verifications_are_reported_once(steps, warnings):
    assert list(Script(*steps).monitor.notices).count(Warn.ONLY_PROBES) == warnings


def test_a_forked_child_begins_in_the_first_state():
    script = Script("0 begins", *OUTAGE)
    assert script.monitor.claim_thread()
    thread = threading.Thread(target=script.monitor._lock.acquire)
    thread.start()
    thread.join()
    script.monitor.reset()
    assert (script.state, script.monitor.under_way) == (UP, 0)
    script.run("2 answered", "2 begins", "3 fails")
    assert script.monitor.under_way == 0
    assert script.monitor.claim_thread()
