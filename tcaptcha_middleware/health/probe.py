"""The daemon thread that runs probes while the service is not known to be up.

The thread only waits and watches; each probe runs in a second thread and may hang. Waits that
end late reveal a process that was stopped or starved (SIGSTOP, a held GIL): a probe that failed
meanwhile proves nothing.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import OutageError, VerifierError
from tcaptcha_middleware.operations import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tcaptcha_middleware.health.monitor import Monitor

SLICE = 0.05
"""Seconds of each wait for a probe."""
STALL = 1.0
"""Seconds by which the waits may end late in sum; a loaded machine often reaches 0.3."""
GRACE = 0.5
"""Seconds beyond its limit after which a probe counts as hung."""
LEFT_BEHIND = 4
"""How many hung probes may be left behind; at that number, probes are void."""


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


def start_daemon(run: Callable[[], None]) -> threading.Thread:
    """Start a function in a daemon thread, which does not keep the interpreter from exiting.

    Raises:
        RuntimeError: If the system has no more threads, or the interpreter exits.
    """
    thread = threading.Thread(target=run, name="tcaptcha health", daemon=True)
    thread.start()
    return thread
