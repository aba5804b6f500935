"""Replay stores for tests."""

from __future__ import annotations

import time

from tcaptcha_middleware import MemoryReplayStore


def isolated_store() -> MemoryReplayStore:
    """Return a store for mini-program tickets that shares no claims with other stores."""
    # With a separate clock: claims of the default clock are shared by the whole process.
    return MemoryReplayStore(clock=lambda: time.monotonic(), single_process=True)  # noqa: PLW0108
