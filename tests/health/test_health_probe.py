"""The thread that runs probes: outcomes, stalls of this process, probes that hang."""

from __future__ import annotations

import asyncio

import pytest

from tcaptcha_middleware import OutageError, VerifierError
from tcaptcha_middleware.health import health as health_module
from tcaptcha_middleware.health.health import Prober
from tcaptcha_middleware.health.limits import Slots
from tcaptcha_middleware.health.monitor import Monitor, State

UP, SUSPECT, DOWN = State


class Verifier:
    """Answers probes, or raises an error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.limits: list[float] = []

    def probe(self, limit):
        self.limits.append(limit)
        if self.error is not None:
            raise self.error


class AsyncVerifier:
    """The same for an event loop."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.sync = Verifier(error)
        self.limits = self.sync.limits

    async def aprobe(self, limit):
        await asyncio.sleep(0)
        self.sync.probe(limit)


class Bench:
    """A prober on a simulated clock. The test runs what is started in threads."""

    def __init__(self, verifier, start_thread=None, under_way=1) -> None:
        self.now = 0.0
        self.runs: list = []
        self.monitor = Monitor(Slots(64), lambda: None, self.clock, lambda low, high: low)
        self.prober = Prober(
            verifier, self.monitor, self.clock, start_thread or self.runs.append
        )
        for _ in range(under_way):
            self.monitor.__enter__()
        self.monitor.request_probe()
        self.steps = self.prober.steps()

    def clock(self) -> float:
        return self.now

    def sleep(self, *seconds: float) -> float | None:
        """Sleep so long; return the last wait that the prober asks for."""
        wait = None
        for each in seconds:
            self.now += each
            wait = next(self.steps, None)
        return wait

    def probe(self, *seconds: float) -> float | None:
        """Run a whole probe that ends after so long."""
        assert self.sleep(0) == 0.05
        self.sleep(*seconds[:-1])
        self.runs.pop()()
        return self.sleep(seconds[-1])


OUTCOMES = {
    "an answer": (None, UP, None),
    "no connection": (OutageError("refused", connected=False), SUSPECT, 0.95),
    "no answer": (OutageError("took too long"), SUSPECT, 0.95),
    "another outage": (OutageError("down"), SUSPECT, 0.95),
    "DNS": (VerifierError("no such name", answered=False), UP, 0.95),
    "a timeout of another kind": (TimeoutError(), UP, 0.95),
    "no files": (OSError(24, "Too many open files"), UP, 0.95),
    "a bug": (ZeroDivisionError(), UP, 0.95),
}


@pytest.mark.parametrize("verifier", [Verifier, AsyncVerifier])
@pytest.mark.parametrize(("error", "state", "wait"), OUTCOMES.values(), ids=OUTCOMES)
def test_a_probe_is_answered_or_fails_or_proves_nothing(error, state, wait, verifier):
    bench = Bench(verifier(error))
    assert bench.probe(0.05) == (wait if wait is None else pytest.approx(wait))
    assert bench.monitor.state is state
    assert bench.prober._verifier.limits == [2.0]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (OutageError("refused", connected=False), SUSPECT),
        (OutageError("took too long", connected=True), UP),
        (OutageError("down"), UP),
    ],
)
def test_under_load_only_a_failure_to_connect_counts(error, state):
    bench = Bench(Verifier(error), under_way=9)
    bench.probe(0.05)
    assert bench.monitor.state is state


def test_a_thread_that_is_stopped_proves_nothing():
    bench = Bench(Verifier(SystemExit()))
    bench.sleep(0)
    with pytest.raises(SystemExit):
        bench.runs.pop()()
    assert bench.sleep(0.05) == pytest.approx(0.95)
    assert bench.monitor.state is UP


def test_two_failed_probes_establish_an_outage_and_an_answered_one_ends_it():
    bench = Bench(Verifier(OutageError("refused", connected=False)))
    wait = bench.probe(0.05)
    bench.now += wait + 0.001
    wait = bench.probe(0.05)
    assert bench.monitor.state is DOWN
    assert bench.monitor.failure == "refused"
    bench.prober._verifier.error = None
    bench.now += wait + 0.001
    assert bench.probe(0.05) is None
    assert bench.monitor.state is UP


STALLS = {
    "on time": ([0.05] * 40, SUSPECT),
    "a loaded machine": ([0.09] * 22, SUSPECT),
    "one second": ([0.05] * 18 + [1.04], SUSPECT),
    "more than a second": ([0.05] * 18 + [1.06], UP),
    "at the beginning": ([1.5], UP),
    "at the end": ([0.05] * 39 + [1.5], UP),
    "starved for the whole time": ([0.12] * 16, UP),
}


@pytest.mark.parametrize(("seconds", "state"), STALLS.values(), ids=STALLS)
def test_a_probe_that_fails_while_this_process_is_stopped_proves_nothing(seconds, state):
    bench = Bench(Verifier(OutageError("took too long", connected=False)))
    bench.probe(*seconds)
    assert bench.monitor.state is state


def test_an_answer_counts_although_this_process_was_stopped():
    bench = Bench(Verifier(OutageError("refused", connected=False)))
    wait = bench.probe(0.05)
    bench.now += wait + 0.001
    bench.prober._verifier.error = None
    assert bench.probe(5.0) is None
    assert bench.monitor.state is UP


def test_a_probe_that_hangs_is_abandoned_and_proves_nothing():
    bench = Bench(Verifier(OutageError("took too long", connected=False)))
    waits = []
    while (wait := bench.sleep(waits[-1] if waits else 0)) == 0.05 and len(bench.runs) == 1:
        waits.append(wait)
    assert bench.now == pytest.approx(2.55)
    assert bench.monitor.state is UP
    bench.runs[0]()
    assert bench.monitor.state is UP


def test_an_abandoned_probe_can_still_be_answered():
    bench = Bench(Verifier())
    bench.monitor.__exit__(None, OutageError("down"), None)
    bench.sleep(0, 3)
    assert bench.monitor.state is SUSPECT
    bench.runs[0]()
    assert bench.monitor.state is UP


def test_no_more_than_four_probes_hang():
    bench = Bench(Verifier())
    for _ in range(30):
        bench.monitor.request_probe()
        bench.sleep(10)
    assert len(bench.runs) == 4
    bench.prober._attempts[0].is_running = False
    bench.sleep(10)
    assert len(bench.runs) == 5


def no_thread(run):
    raise RuntimeError("can't start new thread")


def test_without_a_thread_nothing_is_established():
    bench = Bench(Verifier(OutageError("refused", connected=False)), no_thread)
    assert bench.sleep(0) == 1.0
    assert bench.sleep(1) == pytest.approx(2.0)
    assert bench.monitor.state is UP
    assert bench.monitor.claim_thread()
    bench.prober.start()
    assert bench.monitor.claim_thread()


def test_a_thread_that_died_is_replaced(monkeypatch):
    class Died(BaseException):
        pass

    def sleep(seconds):
        raise Died

    monkeypatch.setattr(health_module.time, "sleep", sleep)
    bench = Bench(Verifier(OutageError("refused", connected=False)))
    assert bench.monitor.claim_thread()
    with pytest.raises(Died):
        bench.prober.run()
    assert bench.monitor.claim_thread()


def test_the_reason_of_a_void_probe_is_logged_and_no_secret_with_it(caplog):
    caplog.set_level("DEBUG")
    for error in (VerifierError("bad certificate"), ValueError("SECRET")):
        Bench(Verifier(error)).probe(0.05)
    Bench(Verifier(), no_thread).sleep(0)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "a probe proved nothing: bad certificate",
        "a probe proved nothing: ValueError",
        "a probe proved nothing: can't start new thread",
    ]
