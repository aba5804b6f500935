"""Watch a replay store: skip one that fails, and notice a Redis that loses claims. No I/O.

A hung store must not delay every request. A claim that Redis deletes before it expires could be
used again: https://redis.io/docs/latest/develop/reference/eviction/
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tcaptcha_middleware.operations import log
from tcaptcha_middleware.scoped import PerProcess

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FAILURES = 3
"""How many failures in a row it takes to skip the store."""
PAUSE = 5.0
"""Seconds between two requests that try a skipped store."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the counters of Redis."""


class StoreMonitor:
    """Decide whether a request may ask the replay store; thread-safe, one for each guard.

    The time is an argument, in seconds of a clock that never goes back.

    Attributes:
        failures: How many slow failures in a row there were.
        answers: Whether the store did what it was last asked.
    """

    def __init__(self) -> None:
        # A lock held during fork() is never released in the child.
        self._lock = PerProcess(threading.Lock)
        self.failures: int = 0
        self.answers: bool = True
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


class Evictions:
    """The counters `evicted_keys` of all nodes of a Redis, at the last look.

    The store sends `INFO` when a look is due, and passes the answer on.
    """

    def __init__(self) -> None:
        self._look_at = float("-inf")
        self._counts: dict[str, int] = {}
        self._unsafe_until = float("-inf")
        self._logged = False

    def is_due(self, now: float) -> bool:
        """Return whether to look now; True once in every `LOOK_EVERY` seconds."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_EVERY
        return True

    def note(self, nodes: Iterable[Mapping[str, object]], now: float, seconds: float) -> None:
        """Compare the counters with those of the last look.

        Args:
            nodes: The answer to `INFO` of each node.
            now: The time in seconds.
            seconds: How long claims last; an evicted one is missed for so long.
        """
        # By node, because a failover or a new node brings another counter.
        counts = {
            str(node.get("run_id")): int(str(node.get("evicted_keys", 0))) for node in nodes
        }
        grew = any(count > self._counts.get(node, count) for node, count in counts.items())
        self._counts = counts
        if grew:
            self._unsafe_until = now + seconds
            if not self._logged:
                self._logged = True
                log.redis_evicts()

    def lost_claims(self, now: float) -> bool:
        """Return whether a claim that should still hold may have been deleted."""
        return now < self._unsafe_until
