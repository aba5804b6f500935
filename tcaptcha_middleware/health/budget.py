"""The fail-open budget: how many requests per minute may pass without a verdict."""

from __future__ import annotations

import threading

from tcaptcha_middleware.scoped import renew_after_fork


class Budget:
    """Token bucket that refills evenly and holds one minute's worth.

    Args:
        per_minute: How many tokens it gains per minute, and the most that it holds.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._at: float | None = None
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock: one that is held during fork() is never released in the child."""
        self._lock = threading.Lock()

    def spend(self, now: float) -> bool:
        """Take a token; return False if none is left.

        Args:
            now: The time in seconds, by a clock that never goes back.
        """
        with self._lock:
            elapsed = 0.0 if self._at is None else max(0.0, now - self._at)
            self._left = min(self._per_minute, self._left + elapsed * self._per_minute / 60)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True
