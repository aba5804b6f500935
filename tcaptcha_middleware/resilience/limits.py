"""What keeps a slow or broken Tencent from taking the site down: arithmetic, no I/O.

The time is an argument, in seconds of a clock that never goes back. Each object is shared by
every request of a process, from any thread.
"""

from __future__ import annotations

import threading


class Breaker:
    """Stop calling what is down, and let one call through now and then to see.

    Args:
        failures: How many in a row open it.
        pause: How long it stays open before a probe, in seconds.
    """

    def __init__(self, failures: int, pause: float) -> None:
        self._failures = failures
        self._pause = pause
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._probe_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether so many calls in a row failed, and none has succeeded since."""
        return self._in_a_row >= self._failures

    def blocks(self, now: float) -> bool:
        """Tell whether no call may be made now; to ask takes nobody's turn."""
        return self.is_open and now < self._probe_at

    def admits(self, now: float) -> bool:
        """Tell whether a call may be made; while open, one in each pause may."""
        if not self.is_open:
            return True
        with self._lock:
            if now < self._probe_at:
                return False
            # The probe's turn ends by the clock, so that one that is cancelled jams nothing.
            self._probe_at = now + self._pause
            return True

    def succeeded(self) -> None:
        """Note that a call was answered, whatever the answer."""
        if self._in_a_row:
            with self._lock:
                self._in_a_row = 0

    def failed(self, now: float) -> None:
        """Note that a call was not answered."""
        with self._lock:
            self._in_a_row += 1
            if self.is_open:
                self._probe_at = now + self._pause


class Bulkhead:
    """Bound how many calls are under way at once, so that waiting ones cannot pile up.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Take a place; False where there is none."""
        with self._lock:
            if self._free == 0:
                return False
            self._free -= 1
            return True

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._free += 1
