"""Fixtures and settings for all tests."""

from __future__ import annotations

import logging
import sys
import threading

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from tcaptcha_middleware import scoped
from tcaptcha_middleware.health.health import Health

# A machine under load exceeds any useful limit for one example.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
# Nor is it news that a callback took 0.1 s, which asyncio logs in the development mode.
logging.getLogger("asyncio").addFilter(
    lambda record: not record.getMessage().startswith("Executing ")
)


@pytest.fixture(autouse=True)
def no_probe_outlives_its_test():
    """End the probes of each test's guards, which would write log lines in later tests."""
    yield
    if any(thread.name == "tcaptcha health" for thread in threading.enumerate()):
        for instance in tuple(scoped._forkable):
            if isinstance(instance, Health):
                instance.close()


@pytest.fixture(autouse=True, scope="module")
def nothing_blocks_an_event_loop(request):
    """Fail if code blocks an event loop while the package is on the stack.

    Not in tests with a browser, which keeps an event loop running in this thread, nor in tests
    of servers in other processes.
    """
    if any(map(request.node.get_closest_marker, ("outside", "hostile"))):
        yield
        return
    with blockbuster_ctx("tcaptcha_middleware") as blockbuster:
        # Coverage's tracer takes a lock of its own in the package's code, without a frame that
        # shows it. Locks are therefore watched on the Pythons that measure no coverage.
        if "coverage" in sys.modules:
            blockbuster.functions["threading.Lock.acquire"].deactivate()
        yield
