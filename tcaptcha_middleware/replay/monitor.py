"""Skip a replay store that fails, so a hung one does not delay every request. No I/O."""

from __future__ import annotations

import threading

from tcaptcha_middleware.operations import log
from tcaptcha_middleware.scoped import PerProcess

FAILURES = 3
"""How many failures in a row it takes to skip the store."""
PAUSE = 5.0
"""Seconds between two requests that try a skipped store."""


class StoreMonitor:
    """Decide whether a request may ask the replay store; thread-safe, one for each guard.

    The time is an argument, in seconds of a clock that never goes back.

    Attributes:
        failures: How many failures in a row there were.
    """

    def __init__(self) -> None:
        # A lock held during fork() is never released in the child.
        self._lock = PerProcess(threading.Lock)
        self.failures: int = 0
        self._try_at = 0.0

    def may_ask(self, now: float) -> bool:
        """Return whether to ask the store; while it is skipped, True once in each pause."""
        if self.failures < FAILURES:
            return True
        with self._lock.get():
            if now < self._try_at:
                return False
            # The turn ends by the clock, so a cancelled request does not block later ones.
            self._try_at = now + PAUSE
            return True

    def succeeded(self) -> None:
        """Note that the store answered, whether the claim was granted or not."""
        if self.failures == 0:
            return
        with self._lock.get():
            was_skipped = self.failures >= FAILURES
            self.failures = 0
        if was_skipped:
            log.replay_store_answers()

    def failed(self, now: float) -> None:
        """Note that the store failed or did not answer in time."""
        with self._lock.get():
            self.failures += 1
            is_skipped = self.failures == FAILURES
            if is_skipped:
                self._try_at = now + PAUSE
        if is_skipped:
            log.replay_store_skipped(FAILURES, PAUSE)
