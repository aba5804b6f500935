"""Abandoned calls do not delay the exit of a server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from hostile_site import site

pytestmark = pytest.mark.hostile

EXITS_WITHIN = 2.0


def runs(pid):
    """Return if a process is still running, and not a zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # the latter between open and read
        return False


@pytest.mark.parametrize(
    ("adapter", "stuck"),
    [
        ("asyncio", "stuck name"),
        ("asyncio", "stuck thread"),
        ("asyncio", "official client"),
        ("trio", "stuck name"),
        ("trio", "stuck thread"),
        ("threads", "stuck name"),
    ],
)
async def test_a_server_with_abandoned_calls_exits_in_time(adapter, stuck):
    settings = {"verifier": stuck, "timeout": "0.5", "check_timeout": "1"}
    # A call in a thread may or may not have been sent, so its claim stays.
    settings |= {"host": "localhost", "knows_what_is_sent": stuck == "stuck name"}
    async with site(f"exit, {stuck}", adapter, **settings) as (gated, up):
        await up.behave("hang")
        visits = await gated.together(5)
        assert visits.outcomes == {"verifier_unavailable": 5}
        began = time.monotonic()
        os.kill(gated.parent, signal.SIGTERM)
        while runs(gated.pid) and time.monotonic() < began + 10:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        seconds = time.monotonic() - began
        gated.measure(f"exits after {seconds:.1f} s", f"{EXITS_WITHIN} s")
        assert seconds <= EXITS_WITHIN
