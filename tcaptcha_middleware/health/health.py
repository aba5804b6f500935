"""Health of one verifier's service, as the decision flow uses it.

Connects the state machine, the thread that probes, the concurrency limit and the log.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from tcaptcha_middleware.health.limits import Budget, Slots
from tcaptcha_middleware.health.monitor import Monitor, State, Warn
from tcaptcha_middleware.health.probe import Prober, start_daemon
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.scoped import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.health.monitor import Notice

LINES_PER_MINUTE = 6
"""How many changes to `suspect`, and to `down`, are logged per minute."""


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
        can_probe: If the verifier has a method for probes.
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
        self.can_probe: bool = any(
            callable(getattr(verifier, name, None)) for name in ("probe", "aprobe")
        )
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
        self._lines = {state: Budget(LINES_PER_MINUTE) for state in State}
        self._is_logged = False
        self._unlogged = 0
        self._warned_of_threads = False

    @property
    def state(self) -> State:
        """The state; to read it takes no lock. Only `down` is an established outage."""
        return State.UP if self._monitor.is_up else self._monitor.state

    @property
    def is_down(self) -> bool:
        """If an outage is established."""
        return not self._monitor.is_up and self._monitor.state is State.DOWN

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
            self._report_change(*notice)

    def _report_change(self, old: State, new: State) -> None:
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
