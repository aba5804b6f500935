"""Trouble in this process, or single bad answers, never make the gate fail open."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hostile_site import made_up_ticket, site

pytestmark = pytest.mark.hostile

every_adapter = pytest.mark.parametrize("adapter", ["asyncio", "trio", "threads"])
event_loops = pytest.mark.parametrize("adapter", ["asyncio", "trio"])


@asynccontextmanager
async def opening_site(name, adapter, **settings):
    """Serve a site that may fail open; check at the end that it never did."""
    settings = {"on_unavailable": "allow", "disaster_tickets": "allow"} | settings
    async with site(name, adapter, **settings) as (gated, up):
        yield gated, up
        unchecked = gated.visits.count("unchecked")
        gated.measure(f"{unchecked} of {len(gated.visits)} let in unchecked", "0")
        assert unchecked == 0
        assert gated.when("down") == []


async def assert_recovers(gated):
    """Check that visitors pass from now on."""
    visits = await gated.stream(5, 1)
    assert visits.outcomes == {"passed": 5}


@pytest.mark.load(2)
@event_loops
async def test_an_event_loop_blocked_on_the_first_calls(adapter):
    async with opening_site("blocked 0.35 s, cold", adapter, timeout="0.25") as (gated, up):
        await up.tune(latency=0.2)
        for number in range(6):
            visits = asyncio.create_task(gated.together(10))
            if number % 2:  # while they are answered; every other time, while they connect
                await up.received(len(await up.calls()) + 1)
            await gated.act("/block?0.35")
            await visits
            await up.drop()
        gated.measure(f"{gated.visits.outcomes}", "")
        await up.tune()
        await assert_recovers(gated)


@pytest.mark.load(2)
@event_loops
async def test_an_event_loop_blocked_on_kept_connections(adapter):
    async with opening_site("blocked 2 s, kept", adapter, timeout="1") as (gated, up):
        await up.tune(latency=0.5)
        await gated.together(10)
        for _ in range(2):
            visits = asyncio.create_task(gated.together(10))
            await up.received(len(await up.calls()) + 10)
            await gated.act("/block?2")
            await visits
        gated.measure(f"{gated.visits.outcomes}", "")
        await up.tune()
        await assert_recovers(gated)


@pytest.mark.load(12)
@every_adapter
async def test_a_flood_of_made_up_tickets(adapter):
    async with opening_site("2,000 made-up tickets", adapter) as (gated, up):
        honest = asyncio.create_task(gated.stream(5, 3))
        flood = await gated.together(2000, made_up_ticket)
        honest = await honest
        gated.measure(f"{flood.outcomes}", "")
        gated.measure(f"visitors meanwhile: {honest.outcomes}", "")
        assert flood.count("passed") == 0
        assert len(await up.calls()) >= 64
        await assert_recovers(gated)


@pytest.mark.load(3)
@every_adapter
async def test_made_up_tickets_at_the_end_of_keep_alive(adapter):
    async with opening_site("end of keep-alive", adapter) as (gated, up):
        await up.tune(idle=0.6)
        for number in range(12):
            await gated.together(7, made_up_ticket)
            # From 30 ms before the end of the keep-alive time to 25 ms after it.
            await asyncio.sleep(0.57 + number * 0.005)
        gated.measure(f"{gated.visits.outcomes}", "all rejected")
        assert gated.visits.outcomes == {"ticket_rejected": 84}


@pytest.mark.load(2)
@every_adapter
async def test_a_process_that_is_stopped_with_verifications_in_flight(adapter):
    async with opening_site("stopped 6 s, 20 in flight", adapter) as (gated, up):
        await up.tune(latency=1)
        visits = asyncio.create_task(gated.together(20))
        await up.received(20)
        os.kill(gated.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(6)
        finally:
            os.kill(gated.pid, signal.SIGCONT)
        gated.measure(f"{(await visits).outcomes}", "")
        await up.tune()
        await asyncio.sleep(1)
        await assert_recovers(gated)


@every_adapter
async def test_an_untrusted_certificate(adapter):
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder, "certificate.pem")
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        line = ["openssl", "req", *kind, *subject, "-keyout", certificate, "-out", certificate]
        await asyncio.to_thread(subprocess.run, line, check=True, capture_output=True)
        async with opening_site("untrusted certificate", adapter, certificate=certificate) as (
            gated,
            up,
        ):
            await gated.stream(5, 4)
            assert gated.visits.outcomes == {"misconfigured": 20}
            assert await up.calls() == []


BAD_ANSWERS = ["InternalError", "502", "truncated", "another protocol", "a long head", "reset"]


@every_adapter
async def test_single_bad_answers(adapter):
    async with opening_site("single bad answers", adapter) as (gated, up):
        for fault in BAD_ANSWERS * 2:
            await up.drop()  # a new connection is not tried a second time
            await asyncio.sleep(0.05)
            await up.behave(fault, calls=1)
            visit = await gated.visit(made_up_ticket)
            await gated.visit()
            assert (fault, visit.outcome) == (fault, "verifier_unavailable")
        assert gated.visits.count("passed") == len(BAD_ANSWERS) * 2


@pytest.mark.load(2)
@every_adapter
async def test_a_process_without_free_files(adapter):
    # localhost, because getaddrinfo needs a file to resolve it.
    settings = {"host": "localhost", "has_tracebacks": True}
    async with opening_site("no free file", adapter, **settings) as (gated, _):
        connections = [await gated.connect() for _ in range(30)]
        for reader, writer in connections:
            # Accepted only once it is read from.
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"{}")
        await gated.act("/exhaust?2")
        for _ in range(4):
            await asyncio.gather(
                *(gated.visit(connection=connection) for connection in connections)
            )
        gated.measure(f"{gated.visits.outcomes}", "")
        assert gated.visits.count("overloaded") > 0
        # A Redis that was skipped meanwhile is tried again after 5 s, and then releases claims.
        await asyncio.sleep(7.5)
        for _, writer in connections:
            writer.close()
        visits = await gated.stream(20, 1)  # eight late releases each
        assert visits.outcomes == {"passed": 20}
