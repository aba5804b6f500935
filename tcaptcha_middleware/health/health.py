"""Health of one verifier's service, as the decision flow uses it, and the thread that probes.

Connects the state machine with threads, the concurrency limit and the log. The thread runs only
while the service is not known to be up. It waits and watches; each probe runs in a second
thread and may hang. Waits that end late reveal a process that was stopped or starved (SIGSTOP,
a held GIL): a probe that failed meanwhile proves nothing.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import OutageError, VerifierError
from tcaptcha_middleware.health.limits import Budget, Slots
from tcaptcha_middleware.health.monitor import Monitor, State, Warn
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.scoped import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tcaptcha_middleware.health.monitor import Notice

SLICE = 0.05
"""Seconds of each wait for a probe."""
STALL = 1.0
"""Seconds by which the waits may end late in sum; a loaded machine often reaches 0.3."""
GRACE = 0.5
"""Seconds beyond its limit after which a probe counts as hung."""
LEFT_BEHIND = 4
"""How many hung probes may be left behind; at that number, probes are void."""
LINES_PER_MINUTE = 6
"""How many changes to `suspect`, and to `down`, are logged per minute."""


def start_daemon(run: Callable[[], None]) -> threading.Thread:
    """Start a function in a daemon thread, which does not keep the interpreter from exiting.

    Raises:
        RuntimeError: If the system has no more threads, or the interpreter exits.
    """
    thread = threading.Thread(target=run, name="tcaptcha health", daemon=True)
    thread.start()
    return thread


class Health:
    """Says if a verifier's service is up, as far as this process has established.

    Safe for threads and event loops; a forked child begins with the state `up`.

    Args:
        verifier: The verifier; an outage can only be established if it has a method `probe` or
            `aprobe`, called with a limit in seconds: it returns if the service answered and
            raises `OutageError` if not; any other error proves nothing.
        max_checks: How many verifications may be under way at once, at most.
        clock: A monotonic clock, in seconds.
        on_change: Called with the old and the new state. Exceptions are logged.
        start_thread: Starts a function in a daemon thread. With `lambda run: None` a test runs
            its probes itself, with `probe_now`.

    Attributes:
        slots: The concurrency limit.
        verification: A context manager for one verification: `with health.verification:`. It
            learns from the error that leaves it, and can be entered any number of times.
    """

    def __init__(
        self,
        verifier: object,
        max_checks: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[State, State], object] | None = None,
        start_thread: Callable[[Callable[[], None]], object] = start_daemon,
    ) -> None:
        self.slots: Slots = Slots(max_checks)
        self._verifier = verifier
        self._clock = clock
        self._on_change = on_change
        self._start_thread = start_thread
        self._monitor = Monitor(self.slots, self._react, clock)
        self.verification: Monitor = self._monitor
        self._begin()
        renew_after_fork(self)

    def _begin(self) -> None:
        self._prober = Prober(self._verifier, self._monitor, self._clock, self._start_thread)
        self._reporting = threading.Lock()
        self._lines = defaultdict[State, Budget](partial(Budget, LINES_PER_MINUTE))
        self._is_logged = self._warned_of_threads = False
        self._unlogged = 0

    @property
    def can_probe(self) -> bool:
        """If the verifier has a method for probes."""
        names = ("probe", "aprobe")
        return any(callable(getattr(self._verifier, name, None)) for name in names)

    @property
    def state(self) -> State:
        """The state; to read it takes no lock. Only `down` is an established outage."""
        return self._monitor.state

    @property
    def is_down(self) -> bool:
        """If an outage is established."""
        return self._monitor.state is State.DOWN

    @property
    def retry_after(self) -> int:
        """Whole seconds until the next probe can have found that the service is up."""
        return self._monitor.retry_after

    def request_probe(self) -> None:
        """Have the service probed, because a credible disaster ticket arrived."""
        self._monitor.request_probe()

    def probe_now(self) -> None:
        """Run a probe in the calling thread, due or not, and learn from it."""
        self._prober.probe_now()

    def close(self) -> None:
        """Let the thread end soon; a visitor starts it again if it is needed."""
        self._monitor.close()

    def after_fork(self) -> None:
        """Begin in a child process, without its parent's locks, threads and visitors."""
        self.slots.reset()
        self._monitor.reset()
        self._begin()

    def _react(self) -> None:
        # Changes are reported in order, because one thread at a time reports.
        while self._monitor.notices and self._reporting.acquire(blocking=False):
            try:
                while self._monitor.notices:
                    self._report(self._monitor.notices.popleft())
            finally:
                self._reporting.release()
        if self.can_probe and self._monitor.claim_thread():
            self._prober.start()

    def _report(self, notice: Notice) -> None:
        if notice is Warn.ONLY_PROBES:
            log.only_probes_answered(self._verifier)
        elif notice is Warn.NO_THREADS:
            if not self._warned_of_threads:
                log.probes_do_not_run(self._verifier)
            self._warned_of_threads = True
        else:
            old, new = notice
            if self._on_change is not None:
                try:
                    self._on_change(old, new)
                except Exception as error:
                    log.on_change_failed(self._verifier, error)
            # A line that a failure was logged is followed by one that the service is up again.
            logs = self._is_logged if new is State.UP else self._lines[new].spend(self._clock())
            if logs:
                reason, unlogged = self._monitor.failure, self._unlogged
                log.health_changed(self._verifier, old, new, reason, unlogged)
                self._is_logged, self._unlogged = new is not State.UP, 0
            else:
                self._unlogged += 1


class Prober:
    """Runs the probes that a monitor asks for.

    Args:
        verifier: Has a method `probe(limit)`, or `aprobe(limit)` for an event loop.
        monitor: Learns the outcomes.
        clock: A monotonic clock, in seconds.
        start_thread: Starts a function in a daemon thread; raises RuntimeError if it cannot.
    """

    def __init__(
        self,
        verifier: object,
        monitor: Monitor,
        clock: Callable[[], float],
        start_thread: Callable[[Callable[[], None]], object],
    ) -> None:
        self._verifier = verifier
        self._monitor = monitor
        self._clock = clock
        self._start_thread = start_thread
        self._attempts: list[Attempt] = []

    def start(self) -> None:
        """Start the thread. If that is impossible, such as at exit, nothing is established."""
        try:
            self._start_thread(self.run)
        except Exception as error:
            self._monitor.thread_ended()
            log.probe_void(self._verifier, error)

    def run(self) -> None:
        """Run probes until none is needed."""
        try:
            for seconds in self.steps():
                time.sleep(seconds)
        except BaseException:
            self._monitor.thread_ended()
            raise

    def steps(self) -> Iterator[float]:
        """Run probes until none is needed, and yield the seconds to sleep."""
        while (delay := self._monitor.until_probe()) is not None:
            if delay > 0:
                yield delay
            else:
                yield from self._watch()

    def probe_now(self) -> None:
        """Run a probe in the calling thread, due or not."""
        attempt = Attempt(self._verifier, self._monitor)
        attempt.run()
        self._judge(attempt, late=0.0)

    def _watch(self) -> Iterator[float]:
        self._attempts = [attempt for attempt in self._attempts if attempt.is_running]
        last, late = self._clock(), 0.0
        attempt = Attempt(self._verifier, self._monitor)
        deadline = last + attempt.limit + GRACE
        try:
            if len(self._attempts) >= LEFT_BEHIND:
                raise RuntimeError("too many probes hang")
            self._start_thread(attempt.run)
        except Exception as error:
            log.probe_void(self._verifier, error)
            self._monitor.probe_void()
            return
        self._attempts.append(attempt)
        while attempt.is_running and last <= deadline:
            yield SLICE
            now = self._clock()
            late += max(0.0, now - last - SLICE)
            last = now
        self._judge(attempt, late)

    def _judge(self, attempt: Attempt, late: float) -> None:
        if attempt.failure is not None and late <= STALL:
            # Without knowing, assume a connection that waited behind our own load.
            connected = getattr(attempt.failure, "connected", None)
            self._monitor.probe_failed(str(attempt.failure), connected=connected is not False)
        elif not attempt.is_answered:
            self._monitor.probe_void()


class Attempt:
    """One probe.

    Args:
        verifier: Has a method `probe(limit)`, or `aprobe(limit)` for an event loop.
        monitor: Learns at once if the probe is answered, also if it was left behind.

    Attributes:
        limit: Seconds that the probe may take.
        is_running: If the probe has not ended.
        is_answered: If it was answered.
        failure: The outage that it met.
    """

    def __init__(self, verifier: Any, monitor: Monitor) -> None:
        self._verifier = verifier
        self._monitor = monitor
        self.limit: float = monitor.probe_began()
        self.is_running: bool = True
        self.is_answered: bool = False
        self.failure: OutageError | None = None

    def run(self) -> None:
        """Call the verifier, and note what came of it."""
        try:
            probe = getattr(self._verifier, "probe", None)
            if callable(probe):
                probe(self.limit)
            else:
                import asyncio

                asyncio.run(self._verifier.aprobe(self.limit))
        except OutageError as error:
            self.failure = error
        except Exception as error:
            # The text of any other error may contain a secret.
            known = isinstance(error, VerifierError)
            log.probe_void(self._verifier, error if known else type(error).__name__)
        else:
            self.is_answered = True
            self._monitor.probe_answered()
        finally:
            self.is_running = False
