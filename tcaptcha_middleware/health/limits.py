"""How many verifications may be under way, and how many requests may fail open.

Makes no call and knows no errors; the monitor lowers and raises the concurrency limit.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from tcaptcha_middleware.scoped import renew_after_fork
from tcaptcha_middleware.waiting import Wakeup

if TYPE_CHECKING:
    from collections.abc import Callable

CEILING = 64
"""How many verifications may be under way at once, in each process."""
FLOOR = 8
"""How many may be under way while the service is suspect, or slow under our own load."""
LINE = 512
"""How many visitors may wait: as many as 64 slots serve in half a second at 55 ms each."""


@dataclass(slots=True, eq=False)
class Waiter:
    """A visitor in the line.

    Attributes:
        wake: Wakes the visitor, from any thread.
        granted: If the visitor owns a slot.
    """

    wake: Callable[[], object]
    granted: bool = False


class Slots:
    """Slots for verifications, with a first-in first-out line of waiting visitors.

    Shared by all threads and event loops of a process.

    Args:
        max_checks: The limit that the user has set; the fixed one is never above it.

    Attributes:
        limit: How many slots there are now.
        is_cut: If the limit was cut and has not grown back.
    """

    def __init__(self, max_checks: int) -> None:
        self._ceiling = float(min(CEILING, max_checks))
        self.reset()

    def reset(self) -> None:
        """Return to the first state, with a new lock: a fork may copy one that is held."""
        self.limit: int
        self.is_cut: bool
        # Reentrant, because garbage collection may end a request at any point.
        self._lock = threading.RLock()
        self._taken = 0
        self._line: deque[Waiter] = deque()
        self._allowed = self._ceiling
        self._is_narrow = self.is_cut = False
        self._halved_at = -inf
        self.limit = int(self._ceiling)

    def enter(self) -> bool:
        """Take a slot, if one is free and no visitor waits for one."""
        with self._lock:
            if self._line or self._taken >= self.limit:
                return False
            self._taken += 1
            return True

    def wait(self, timeout: float) -> bool:
        """Wait in the line for a slot and take it; return False if the time is over.

        Args:
            timeout: How long to wait, in seconds.
        """
        event = threading.Event()
        waiter = self.join(event.set)
        if waiter is None:
            return False
        try:
            event.wait(timeout)
        except BaseException:
            self.abandon(waiter)
            raise
        return self.settle(waiter)

    async def wait_async(self, timeout: float) -> bool:  # noqa: ASYNC109  the sync twin's name
        """Same as `wait`, but awaited, on asyncio or trio."""
        wakeup = Wakeup()
        waiter = self.join(wakeup.set)
        if waiter is None:
            return False
        try:
            await wakeup.wait(timeout)
        except BaseException:
            self.abandon(waiter)
            raise
        return self.settle(waiter)

    def leave(self) -> None:
        """Give a slot back: to the visitor who has waited longest, if there is one."""
        with self._lock:
            # A fork may have reset the count while its parent's request was under way.
            if self._taken:
                self._taken -= 1
            if not self._line:
                return
            granted = self._grant()
        self._wake(granted)

    def join(self, wake: Callable[[], object]) -> Waiter | None:
        """Enter the line, or return None if it is full; the slot may be granted at once.

        Args:
            wake: Called when a slot is granted later, from any thread.
        """
        waiter = Waiter(wake)
        with self._lock:
            if len(self._line) >= LINE:
                return None
            self._line.append(waiter)
            granted = self._grant()
        self._wake(granted)
        return waiter

    def settle(self, waiter: Waiter) -> bool:
        """End the wait; return whether the visitor owns a slot."""
        with self._lock:
            if not waiter.granted:
                # A fork empties the line.
                with suppress(ValueError):
                    self._line.remove(waiter)
            return waiter.granted

    def abandon(self, waiter: Waiter) -> None:
        """End the wait of a visitor who is gone, and pass on the slot granted meanwhile."""
        if self.settle(waiter):
            self.leave()

    def narrow(self, is_narrow: bool) -> None:
        """Hold the limit at `FLOOR` for as long as the service is not known to be up."""
        if is_narrow != self._is_narrow:
            self._is_narrow = is_narrow
            self._resize(self._allowed)

    def cut(self, limit: float) -> None:
        """Lower the limit; it grows from there."""
        self._resize(min(limit, self._allowed))

    def halve(self, now: float) -> None:
        """Halve the limit after a timeout under load, at most once a second.

        Args:
            now: The time in seconds, by a clock that never goes back.
        """
        if now - self._halved_at >= 1:
            self._halved_at = now
            self.cut(max(FLOOR, self._allowed / 2))

    def grow(self) -> None:
        """Raise the limit by one for each round of answers (additive increase, RFC 5681)."""
        self._resize(self._allowed + 1 / self._allowed)

    def _resize(self, allowed: float) -> None:
        with self._lock:
            self._allowed = min(self._ceiling, allowed)
            self.is_cut = self._allowed < self._ceiling
            self.limit = int(min(self._allowed, FLOOR) if self._is_narrow else self._allowed)
            granted = self._grant()
        self._wake(granted)

    def _grant(self) -> list[Waiter]:
        granted = []
        while self._line and self._taken < self.limit:
            waiter = self._line.popleft()
            waiter.granted = True
            self._taken += 1
            granted.append(waiter)
        return granted

    def _wake(self, granted: list[Waiter]) -> None:
        for waiter in granted:  # grows if slots are passed on
            try:
                waiter.wake()
            except RuntimeError:  # its event loop is closed
                with self._lock:
                    waiter.granted = False
                    self._taken -= 1
                    granted += self._grant()


class Budget:
    """Token bucket of requests that may fail open; refills evenly and holds one minute's worth.

    Args:
        per_minute: How many tokens it gains per minute, and the most that it holds.
    """

    # One for all budgets, because it is held for a few instructions.
    _lock = threading.Lock()

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._at: float | None = None

    @classmethod
    def after_fork(cls) -> None:
        """Replace the lock: one that is held during fork() is never released in the child."""
        cls._lock = threading.Lock()

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


renew_after_fork(Budget)
