"""Claims of one process, kept in its memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from tcaptcha_middleware.validation import check_count

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY = 100_000
"""How many claims are kept, some 20 MB; 330 checks a second for five minutes."""


class MemoryReplayStore:
    """Let each ticket be spent once in this process.

    Bounded: beyond the capacity the oldest claim is forgotten. Of a web page's ticket Tencent's
    own answer 9 remains the second line; for mini-programs, which have none, use
    `RedisReplayStore`.

    Args:
        capacity: How many claims are kept.
        clock: Tells the time in seconds; never goes back.

    Raises:
        ConfigurationError: The capacity is no whole number above 0.
    """

    def __init__(
        self, capacity: int = CAPACITY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        check_count("capacity", capacity)
        self._capacity = capacity
        self._clock = clock
        self._until: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, key: str, seconds: float) -> bool:
        """Claim `key`; True for the first who asks within `seconds`."""
        now = self._clock()
        with self._lock:
            until = self._until.get(key)
            if until is not None:
                if until > now:
                    return False
                del self._until[key]  # to be the newest again
            self._until[key] = now + seconds
            self._forget(now)
            return True

    async def aclaim(self, key: str, seconds: float) -> bool:
        """Same as `claim`, but awaited."""
        return self.claim(key, seconds)

    def _forget(self, now: float) -> None:
        # Oldest first; every claim of a store lasts the same, so that is also the order in
        # which they end. The newest, which was just made, always stays.
        while True:
            key, until = next(iter(self._until.items()))
            if until >= now and len(self._until) <= self._capacity:
                return
            del self._until[key]
