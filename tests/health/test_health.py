"""The health of a verifier's service as the decision flow sees it: threads, events, log."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import OutageError, Submission, VerifierError, scoped
from tcaptcha_middleware.health import monitor as monitor_module
from tcaptcha_middleware.health.health import Health, start_daemon
from tcaptcha_middleware.health.limits import Budget
from tcaptcha_middleware.health.monitor import State
from tcaptcha_middleware.testing import FakeVerifier

UP, SUSPECT, DOWN = State
TICKET = Submission("tr03", "@r", "203.0.113.7")
FORKING = Path(__file__).parents[1] / "support/forking_health.py"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def through_flow(verifier, **settings) -> tuple[Health, Clock]:
    """Return health whose probes the test runs itself."""
    clock = Clock()
    return Health(verifier, 8, clock=clock, start_thread=lambda run: None, **settings), clock


def verify(health, verifier):
    """Verify as the flow does; return False if there is no verdict."""
    try:
        with health.verification:
            verifier.verify(TICKET)
    except VerifierError:
        return False
    return True


def go_down(health, clock):
    for _ in range(2):
        health.probe_now()
        clock.now += 1


def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# -- States ------


def test_a_fake_verifier_that_is_not_up_is_found_to_be_down_and_up_again():
    verifier = FakeVerifier()
    health, clock = through_flow(verifier)
    assert verify(health, verifier)
    verifier.is_up = False
    assert not verify(health, verifier)
    assert (health.state, health.retry_after) == (SUSPECT, 1)
    clock.now += 1
    go_down(health, clock)
    assert health.state is DOWN
    verifier.is_up = True
    health.probe_now()
    assert health.state is UP
    assert verify(health, verifier)


def test_a_requested_probe_finds_an_outage_without_a_verification():
    verifier, runs = FakeVerifier(), []
    verifier.is_up = False
    health = Health(verifier, 8, clock=Clock(), start_thread=runs.append)
    health.request_probe()
    assert health.state is UP
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("methods", "can_probe"), [((), False), (("probe",), True), (("aprobe",), True)]
)
def test_a_verifier_can_be_probed_if_it_has_a_method_for_it(methods, can_probe):
    runs = []
    verifier = type("Verifier", (), dict.fromkeys(methods, print))()
    health = Health(verifier, 8, start_thread=runs.append)
    assert health.can_probe is can_probe
    with pytest.raises(OutageError), health.verification:
        raise OutageError("down")
    assert health.state is SUSPECT
    assert len(runs) == can_probe


def test_the_state_of_an_outage_is_read_without_a_lock():
    verifier = FakeVerifier()
    verifier.is_up = False
    health, clock = through_flow(verifier)
    go_down(health, clock)
    holder = threading.Thread(target=health._monitor._lock.acquire)
    holder.start()
    holder.join()
    clock.now = 3
    assert health.state is DOWN
    assert health.retry_after == 1


# -- Threads ------


@pytest.fixture
def quick(monkeypatch):
    """Shorten what a real thread waits for."""
    for name, seconds in {"INTERVAL": 0.02, "APART": 0.01}.items():
        monkeypatch.setattr(monitor_module, name, seconds)


class Threads(list[threading.Thread]):
    """Starts threads, and remembers them."""

    def start(self, run) -> None:
        self.append(start_daemon(run))

    @property
    def alive(self) -> int:
        return sum(thread.is_alive() for thread in self)


def test_a_thread_probes_while_the_service_is_not_up_and_ends_then(quick):
    verifier, threads, changes = FakeVerifier(), Threads(), []
    health = Health(
        verifier,
        8,
        start_thread=threads.start,
        on_change=lambda *change: changes.append(change),
    )
    assert verify(health, verifier)
    assert threads == []
    verifier.is_up = False
    assert not verify(health, verifier)
    until(lambda: health.state is DOWN)
    assert threads.alive >= 1
    assert all(thread.daemon for thread in threads)
    verifier.is_up = True
    until(lambda: health.state is UP)
    until(lambda: threads.alive == 0)
    assert changes == [(UP, SUSPECT), (SUSPECT, DOWN), (DOWN, UP)]


def test_one_thread_probes_however_many_visitors_fail(quick):
    verifier, threads, most = FakeVerifier(), Threads(), []
    verifier.is_up = False
    health = Health(verifier, 8, start_thread=threads.start)
    for _ in range(50):
        verify(health, verifier)
        # The thread, and the probe that it runs in another one.
        most.append(threads.alive)
    assert max(most) <= 2
    health.close()
    until(lambda: threads.alive == 0)


def test_a_child_process_inherits_no_lock_and_no_thread():
    run = subprocess.run(
        [sys.executable, "-W", "ignore", FORKING],
        capture_output=True,
        check=True,
        text=True,
        timeout=20,
    )
    assert run.stdout.splitlines() == ["child up True", "child up", "parent suspect False"]


def test_every_health_begins_again_after_a_fork():
    broken = FakeVerifier(OutageError("down"))
    healths = [through_flow(broken)[0] for _ in range(2)]
    for health in healths:
        assert health.slots.enter()
        verify(health, broken)
    scoped._after_fork()
    assert [health.state for health in healths] == [UP, UP]
    assert all(health.slots.enter() for health in healths for _ in range(8))


def test_without_fork_nothing_is_registered(monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    assert runpy.run_path(scoped.__file__)["PerLoop"].__name__ == "PerLoop"


EXIT = """
import atexit, time
from tcaptcha_middleware import OutageError
from tcaptcha_middleware.health.health import Health

class Verifier:
    def probe(self, limit):
        time.sleep(60)

def fail():
    try:
        with health.verification:
            raise OutageError("down")
    except OutageError:
        print(health.state)

health = Health(Verifier(), 8)
{before}
atexit.register(fail)
"""


@pytest.mark.parametrize("before", ["", "fail(); time.sleep(0.1)"])
def test_the_interpreter_exits_while_a_probe_hangs_or_is_requested(before):
    began = time.monotonic()
    code = EXIT.format(before=before)
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, timeout=20
    )
    assert time.monotonic() - began < 10
    assert set(run.stdout.split()) == {"suspect"}
    assert run.stderr == ""


# -- Events and log ------


def lines(caplog):
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_each_change_is_logged_once(caplog):
    caplog.set_level("INFO")
    verifier = FakeVerifier()
    health, clock = through_flow(verifier)
    verifier.is_up = False
    for _ in range(3):
        verify(health, verifier)
        go_down(health, clock)
    verifier.is_up = True
    for _ in range(3):
        health.probe_now()
    assert lines(caplog) == [
        ("INFO", "FakeVerifier: the service is suspect and is being probed"),
        (
            "ERROR",
            "FakeVerifier: the service is down, two probes failed: the fake service is down",
        ),
        ("WARNING", "FakeVerifier: the service is up again"),
    ]


def test_a_failure_without_an_outage_is_logged_at_info_only(caplog):
    caplog.set_level("INFO")
    health, _ = through_flow(FakeVerifier(OutageError("down")))
    verify(health, FakeVerifier(OutageError("down")))
    health.probe_now()
    assert lines(caplog) == [
        ("INFO", "FakeVerifier: the service is suspect and is being probed"),
        ("INFO", "FakeVerifier: the service is up again"),
    ]


def test_a_service_that_flaps_does_not_flood_the_log(caplog):
    caplog.set_level("INFO")
    verifier = FakeVerifier()
    health, clock = through_flow(verifier)
    for second in range(600):
        clock.now = second / 10
        verifier.is_up = second % 2 == 1
        verify(health, verifier)
        assert len(caplog.records) <= 2 * (6 + 1 + second / 100)
    clock.now += 60
    verifier.is_up = False
    verify(health, verifier)
    level, line = lines(caplog)[-1]
    assert level == "INFO"
    assert "changes before it were not logged" in line
    # After each line of a failure, there is one that it is over.
    kinds = ["up again" in line for level, line in lines(caplog)[:-1] if level == "INFO"]
    assert kinds == [False, True] * (len(kinds) // 2)


def test_changes_are_reported_in_order_also_from_within_a_report():
    verifier, changes = FakeVerifier(), []

    def on_change(old, new):
        if new is SUSPECT:
            health.probe_now()
        changes.append((old, new))

    health, _ = through_flow(verifier, on_change=on_change)
    verify(health, FakeVerifier(OutageError("down")))
    assert changes == [(UP, SUSPECT), (SUSPECT, UP)]


def test_another_thread_leaves_its_report_to_the_one_that_reports():
    verifier, changes, entered, leave = FakeVerifier(), [], threading.Event(), threading.Event()

    def on_change(*change):
        changes.append(change)
        entered.set()
        assert leave.wait(10)

    health, _ = through_flow(verifier, on_change=on_change)
    verifier.is_up = False
    reporting = threading.Thread(target=verify, args=(health, verifier))
    reporting.start()
    assert entered.wait(10)
    verifier.is_up = True
    health.probe_now()
    assert changes == [(UP, SUSPECT)]
    leave.set()
    reporting.join(10)
    assert changes == [(UP, SUSPECT), (SUSPECT, UP)]


def test_a_hook_that_breaks_is_logged_and_changes_nothing(caplog):
    def broken(old, new):
        raise ZeroDivisionError

    health, _ = through_flow(FakeVerifier(OutageError("down")), on_change=broken)
    assert not verify(health, FakeVerifier(OutageError("down")))
    assert health.state is SUSPECT
    assert "FakeVerifier: the hook for changes of its health failed\nTraceback" in caplog.text


def test_a_process_whose_threads_do_not_run_is_reported_once(caplog):
    verifier = FakeVerifier()
    verifier.is_up = False
    health, clock = through_flow(verifier)
    for clock.now in range(30):
        verify(health, verifier)
        health._monitor.thread_ended()
    warnings = [line for level, line in lines(caplog) if level == "WARNING"]
    assert len(warnings) == 1
    assert "enable-threads" in warnings[0]


def test_answered_probes_beside_failed_verifications_are_reported(caplog):
    health, clock = through_flow(FakeVerifier())
    broken = FakeVerifier(OutageError("down"))
    for clock.now in range(30):
        verify(health, broken)
        health.probe_now()
    warnings = [line for level, line in lines(caplog) if level == "WARNING"]
    assert len(warnings) == 1
    assert "probes are answered, but verifications fail" in warnings[0]


# -- The budget ------


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
