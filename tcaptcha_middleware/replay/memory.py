"""Replay store in the memory of one process."""

from __future__ import annotations

import math
import threading
import time
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import ReplayStoreError
from tcaptcha_middleware.scoped import renew_after_fork
from tcaptcha_middleware.validation import validate_count

if TYPE_CHECKING:
    from collections.abc import Callable

CAPACITY = 100_000
"""How many claims are kept, about 40 MB; 300 verifications a second for five minutes."""
_STEP = 8


class _Claims:
    """The claims by key, and their keys by the second in which they expire.

    A fork can copy a partial update. The order used here makes that harmless: a key without a
    claim is skipped.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_after_fork(self)
        self._by_key: dict[str, tuple[float, str]] = {}
        self._by_second: dict[int, dict[str, None]] = {}
        self._seconds: list[int] = []

    def after_fork(self) -> None:
        # A lock held during fork() is never released in the child.
        self._lock = threading.Lock()

    def claim(self, key: str, token: str, now: float, until: float, capacity: int) -> bool:
        with self._lock:
            if self._seconds and self._seconds[0] <= now:
                self._remove_expired(now)
            claim = self._by_key.get(key)
            if claim is not None:
                if claim[0] > now:
                    return False
                self._remove(key, claim[0])
            elif len(self._by_key) >= capacity:
                raise ReplayStoreError(f"all {capacity} claims in memory are in use")
            second = math.ceil(until)
            keys = self._by_second.get(second)
            if keys is None:
                keys = self._by_second[second] = {}
                heappush(self._seconds, second)
            keys[key] = None
            self._by_key[key] = until, token
            return True

    def release(self, key: str, token: str) -> None:
        with self._lock:
            claim = self._by_key.get(key)
            if claim is not None and claim[1] == token:
                self._remove(key, claim[0])

    def clear(self) -> None:
        with self._lock:
            self._by_key.clear()
            self._by_second.clear()
            self._seconds.clear()

    def _remove(self, key: str, until: float) -> None:
        del self._by_key[key]
        # The emptied set stays until its second is over: a new one would need a second entry
        # in the heap, and claims that are released at once would let that grow.
        self._by_second.get(math.ceil(until), {}).pop(key, None)

    def _remove_expired(self, now: float) -> None:
        # A few for each claim, because all at once would block the event loop.
        for _ in range(_STEP):
            if not self._seconds or self._seconds[0] > now:
                return
            keys = self._by_second[self._seconds[0]]
            if not keys:
                del self._by_second[heappop(self._seconds)]
                continue
            key, _ = keys.popitem()
            claim = self._by_key.get(key)
            if claim is not None and claim[0] <= now:
                del self._by_key[key]


_PROCESS_CLAIMS = _Claims()


class MemoryReplayStore:
    """Let each ticket be used once in this process.

    Bounded: when it is full, it raises `ReplayStoreError` instead of forgetting a live claim.

    Args:
        capacity: How many claims are kept.
        clock: Returns the time in seconds; must never go back.
        single_process: True if this is the only process that serves the application. Required
            for vendors that accept a ticket twice, such as Tencent for mini-programs. All such
            stores of a process share their claims.

    Attributes:
        single_process: The argument.

    Raises:
        ConfigurationError: If `capacity` is not an integer above 0.
    """

    def __init__(
        self,
        capacity: int = CAPACITY,
        clock: Callable[[], float] = time.monotonic,
        *,
        single_process: bool = False,
    ) -> None:
        validate_count("capacity", capacity)
        self.single_process: bool = single_process
        self._capacity = capacity
        self._clock = clock
        # Times of different clocks cannot be compared.
        shared = single_process and clock is time.monotonic
        self._claims = _PROCESS_CLAIMS if shared else _Claims()

    def claim(self, key: str, token: str, seconds: float) -> bool:
        """Claim `key` for `seconds`; True for the first caller.

        Raises:
            ReplayStoreError: If the store is full.
        """
        now = self._clock()
        return self._claims.claim(key, token, now, now + seconds, self._capacity)

    def release(self, key: str, token: str) -> None:
        """Delete the claim of `key` if it was made with `token`."""
        self._claims.release(key, token)

    async def aclaim(self, key: str, token: str, seconds: float) -> bool:
        """Same as `claim`, but awaited."""
        return self.claim(key, token, seconds)

    async def arelease(self, key: str, token: str) -> None:
        """Same as `release`, but awaited."""
        self.release(key, token)

    def clear(self) -> None:
        """Forget every claim, so tests can use one ticket again."""
        self._claims.clear()
