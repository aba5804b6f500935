"""What holds for every test."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True, scope="module")
def nothing_blocks_an_event_loop(request):
    """Let whatever would block an event loop fail, where our package is on the stack.

    Not where a browser is driven, which keeps an event loop running in this thread.
    """
    outside = request.node.get_closest_marker("outside")
    with nullcontext() if outside else blockbuster_ctx("tcaptcha_middleware"):
        yield
