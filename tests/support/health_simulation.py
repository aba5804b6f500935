"""A service that follows a script, visitors, and this process, all on a simulated clock.

Runs the package's own state machine, concurrency limit and watch over probes. Only threads and
sleeping are replaced. If an answer and a timeout are handled at the same moment, the timeout is
first: the worst case for a process that was stopped.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import OutageError
from tcaptcha_middleware.health.health import Health, Prober
from tcaptcha_middleware.health.monitor import State

if TYPE_CHECKING:
    from collections.abc import Callable

WAIT = 0.5
RESEND_SYN = (0.0, 1.0, 3.0)


class UnansweredError(OutageError):
    """An outage whose error says if a connection was accepted."""

    def __init__(self, message: str, *, connected: bool) -> None:
        super().__init__(message)
        self.connected = connected


@dataclass
class Service:
    """What the verifier calls.

    Args:
        faults: `(begin, end, kind)`, in seconds.
        latency: Seconds of an answer without load.
        capacity: Answers per second; later calls wait in a queue, also those given up on.
    """

    faults: list[tuple[float, float, str]] = field(default_factory=list)
    latency: float = 0.05
    capacity: float = inf
    random: Random = field(default_factory=lambda: Random(1))
    free_at: float = 0.0

    def fault(self, now: float) -> str:
        kinds = [kind for begin, end, kind in self.faults if begin <= now < end]
        return kinds[0] if kinds else ""

    def call(self, now: float) -> tuple[float, Exception | None, bool]:
        """Return the seconds until a call ends, its error, and if it was connected by then."""
        kind = self.fault(now)
        if kind == "half":
            kind = self.random.choice(["", "reset"])
        if kind == "blackhole":
            # Connected at the first SYN that gets through.
            delays = [delay for delay in RESEND_SYN if self.fault(now + delay) != kind]
            return (delays[0] + self.latency, None, True) if delays else (inf, None, False)
        if kind == "hang":
            return inf, None, True
        if kind == "refused":
            return 0.001, UnansweredError("connection refused", connected=False), False
        if kind:
            return self.latency / 2, UnansweredError(kind, connected=True), True
        begins = max(now, self.free_at)
        self.free_at = begins + 1 / self.capacity
        return self.free_at - now + self.latency, None, True


class Simulation:
    """One process in front of a service.

    Args:
        service: The service.
        timeout: Seconds after which a verification is given up.
        stops: `(begin, end)` in which the process is stopped (SIGSTOP, a held GIL).
        blocks: `(begin, end)` in which only the event loop is blocked.
        max_checks: The user's setting.
    """

    def __init__(
        self, service: Service, *, timeout=5.0, stops=(), blocks=(), max_checks=256, seed=1
    ) -> None:
        self.now = 0.0
        self.service = service
        self.timeout = timeout
        self.stops = list(stops)
        self.blocks = [*stops, *blocks]
        self.events: list = []
        self.order = itertools.count()
        self.states = [(0.0, State.UP)]
        self.outcomes: list[tuple[float, str, str]] = []
        self.probes: list[float] = []
        self.health = Health(
            self,
            max_checks,
            clock=lambda: self.now,
            on_change=lambda old, new: self.states.append((self.now, new)),
            start_thread=self.start_thread,
        )
        self.health._monitor._uniform = Random(seed).uniform

    # -- Time ------

    def at(self, time: float, do: Callable[[], None], *, windows=(), late=True) -> None:
        for begin, end in sorted(windows):
            if begin <= time < end:
                time = end
        heapq.heappush(self.events, (time, late, next(self.order), do))

    def run(self, until: float) -> Simulation:
        while self.events and self.events[0][0] <= until:
            self.now, _, _, do = heapq.heappop(self.events)
            do()
        self.now = until
        return self

    # -- Probes ------

    def start_thread(self, run: Callable[[], None]) -> None:
        if isinstance(run.__self__, Prober):
            steps = run.__self__.steps()
            self.at(self.now, lambda: self.advance(steps), windows=self.stops)
        else:
            self.attempt(run)

    def advance(self, steps) -> None:
        seconds = next(steps, None)
        if seconds is not None:
            self.at(self.now + seconds, lambda: self.advance(steps), windows=self.stops)

    def attempt(self, run: Callable[[], None]) -> None:
        self.probes.append(self.now)
        delay, error, connected = self.service.call(self.now)
        limit = run.__self__.limit
        if delay > limit:
            delay, error = limit, UnansweredError("probe took too long", connected=connected)

        def end() -> None:
            self.error = error
            run()

        self.at(self.now + delay, end, windows=self.stops, late=error is None)

    def probe(self, limit: float) -> None:
        if self.error is not None:
            raise self.error

    # -- Visitors ------

    def arrive(self, rate: float, begin: float, end: float, kind: str = "honest") -> Simulation:
        for number in range(round((end - begin) * rate)):
            self.at(begin + number / rate, lambda: self.visit(kind), windows=self.blocks)
        return self

    def visit(self, kind: str) -> None:
        if kind == "disaster":
            # As the flow does: request a probe, then look at the state.
            self.health.request_probe()
            is_down = self.health.state is State.DOWN
            self.note("let in" if is_down else "refused", kind)
        elif self.health.state is State.DOWN:
            self.note("let in", kind)
        elif self.health.slots.enter():
            self.verify(kind)
        else:
            self.wait(kind)

    def wait(self, kind: str) -> None:
        ends = itertools.count()
        waiter = None

        def end() -> None:
            if next(ends) == 0:
                if self.health.slots.settle(waiter):
                    self.verify(kind)
                else:
                    self.note("overloaded", kind)

        waiter = self.health.slots.join(lambda: self.at(self.now, end, windows=self.blocks))
        if waiter is None:
            self.note("overloaded", kind)
        else:
            self.at(self.now + WAIT, end, windows=self.blocks, late=False)

    def verify(self, kind: str) -> None:
        if self.health.state is State.DOWN:
            self.health.slots.leave()
            self.note("let in", kind)
            return
        self.health.verification.__enter__()
        delay, error, _ = self.service.call(self.now)
        answered, timed_out = self.now + delay, self.now + self.timeout
        ends = itertools.count()

        def end(error: Exception | None) -> None:
            if next(ends) == 0:
                self.health.verification.__exit__(None, error, None)
                self.health.slots.leave()
                is_down = error is not None and self.health.state is State.DOWN
                outcome = "passed" if error is None else "let in" if is_down else "refused"
                self.note(outcome, kind)

        self.at(timed_out, lambda: end(TimeoutError()), windows=self.blocks, late=False)
        if answered < inf:
            self.at(answered, lambda: end(error), windows=self.blocks)

    def note(self, outcome: str, kind: str) -> None:
        self.outcomes.append((self.now, outcome, kind))

    # -- Results ------

    def count(self, *outcomes: str, kind="honest", begin=0.0, end=inf) -> int:
        return sum(
            outcome in outcomes and each == kind and begin <= time < end
            for time, outcome, each in self.outcomes
        )

    @property
    def went_down(self) -> list[float]:
        return [time for time, state in self.states if state is State.DOWN]

    @property
    def last_let_in(self) -> float:
        return max(
            (time for time, outcome, _ in self.outcomes if outcome == "let in"), default=0.0
        )
