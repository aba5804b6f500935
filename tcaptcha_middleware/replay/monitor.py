"""Skips a replay store that hangs, and tries it again now and then. No I/O."""

from __future__ import annotations

FAILURES = 3
PAUSE = 5.0


class StoreMonitor:
    """Decide whether the replay store is called."""

    def __init__(self) -> None:
        self._failures = 0
        self._next_at = 0.0

    def may_ask(self, now: float) -> bool:
        """Return whether a request may call the store now."""
        if self._failures < FAILURES:
            return True
        if now < self._next_at:
            return False
        self._next_at = now + PAUSE
        return True

    def succeeded(self) -> None:
        """Note an answer."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """Note a call without an answer."""
        self._failures += 1
        self._next_at = now + PAUSE
