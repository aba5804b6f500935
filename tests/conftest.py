"""What holds for every test."""

from __future__ import annotations

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

# A machine under load takes longer for an example than any limit that would be of use.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True, scope="module")
def nothing_blocks_an_event_loop(request):
    """Let whatever would block an event loop fail, where our package is on the stack.

    Not where a browser is driven, which keeps an event loop running in this thread, nor where
    servers in other processes are measured.
    """
    if any(map(request.node.get_closest_marker, ("outside", "hostile"))):
        yield
        return
    with blockbuster_ctx("tcaptcha_middleware") as blockbuster:
        # Coverage's tracer is called wherever the package is, and shares a lock among threads.
        lock = blockbuster.functions["threading.Lock.acquire"]
        lock.can_block_in("coverage/collector.py", "lock_data")
        yield
