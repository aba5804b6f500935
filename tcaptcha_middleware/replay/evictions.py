"""Whether a Redis deletes keys before they expire; claims among them could be used again.

Makes no call itself: the store sends `INFO` when a look is due, and passes the answer on.

https://redis.io/docs/latest/develop/reference/eviction/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcaptcha_middleware.operations import log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOOK_EVERY = 5.0
"""Seconds between two looks at the counters of Redis."""


class Evictions:
    """The counters `evicted_keys` of all nodes at the last look."""

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
