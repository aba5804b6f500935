"""A real outage makes the gate fail open soon if the site allows it, until shortly after it."""

from __future__ import annotations

import asyncio
import time

import pytest
from hostile_site import disaster_ticket, good_ticket, site

pytestmark = pytest.mark.hostile

OPENS_WITHIN = {"hang": 8.0}
CLOSES_WITHIN = 2.0
HEALTHY, AFTERWARDS = 2.5, 4.5

COVER = [
    *(("asyncio", kind) for kind in ("refused", "blackhole", "502", "code 26", "hang")),
    *(("threads", kind) for kind in ("refused", "blackhole", "502", "hang")),
    *(("trio", kind) for kind in ("refused", "blackhole", "hang")),
]


async def outage(gated, up, kind, *, make=good_ticket, rate=1.0):
    """Break the upstream while visitors send requests; return when it failed and recovered."""
    lasts = OPENS_WITHIN.get(kind, 5.0) + 3
    coming = asyncio.create_task(gated.stream(rate, HEALTHY + lasts + AFTERWARDS, make))
    await asyncio.sleep(HEALTHY)
    broke = await up.behave(kind)
    await asyncio.sleep(broke + lasts - time.monotonic())
    recovered = await up.behave()
    await coming
    return broke, recovered


def assert_found(gated, kind, broke, recovered):
    """Check when the state became down, and when it ended."""
    first = min(visit.began for visit in gated.visits.of(begin=broke))
    downs = gated.when("down")
    opened = downs[0] - first
    closed = gated.when("up")[-1] - recovered
    gated.measure(f"{kind}: opens after {opened:.1f} s", f"{OPENS_WITHIN.get(kind, 5.0)} s")
    gated.measure(f"{kind}: closes after {closed:.1f} s", f"{CLOSES_WITHIN} s")
    assert downs[0] > broke
    assert opened <= OPENS_WITHIN.get(kind, 5.0)
    assert closed <= CLOSES_WITHIN
    return downs[0]


def assert_served_otherwise(gated, broke, recovered, outcome="passed"):
    """Check that all visitors pass, or get `outcome`, before and after the outage."""
    before = gated.visits.of(begin=0, end=broke - 0.2)
    after = gated.visits.of(begin=recovered + CLOSES_WITHIN)
    assert before.outcomes == {outcome: len(before)}
    assert after.outcomes == {outcome: len(after)}
    assert len(before) * len(after) > 0


@pytest.mark.parametrize(("adapter", "kind"), COVER)
async def test_a_real_outage_opens_and_closes_in_time(adapter, kind):
    async with site("outage", adapter, on_unavailable="allow") as (gated, up):
        broke, recovered = await outage(gated, up, kind)
        opened = assert_found(gated, kind, broke, recovered)
        assert_served_otherwise(gated, broke, recovered)
        unchecked = gated.visits.of("unchecked")
        assert all(opened <= visit.ended <= recovered + CLOSES_WITHIN for visit in unchecked)
        assert gated.visits.count("unchecked", begin=opened, end=recovered) >= 2


@pytest.mark.parametrize(("adapter", "kind"), [("asyncio", "refused"), ("threads", "502")])
async def test_with_deny_an_outage_refuses_every_visitor(adapter, kind):
    async with site("outage, deny", adapter) as (gated, up):
        broke, recovered = await outage(gated, up, kind)
        opened = assert_found(gated, kind, broke, recovered)
        assert_served_otherwise(gated, broke, recovered)
        assert gated.visits.count("unchecked") == 0
        meanwhile = gated.visits.of(begin=opened, end=recovered)
        assert meanwhile.outcomes == {"verifier_unavailable": len(meanwhile)}
        assert {visit.retry_after for visit in meanwhile} <= {1, 2, 3}


@pytest.mark.parametrize("adapter", ["asyncio", "threads"])
async def test_an_outage_admits_no_more_than_the_budget(adapter):
    settings = {"on_unavailable": "allow", "allow_per_minute": "20"}
    async with site("budget", adapter, **settings) as (gated, up):
        broke, recovered = await outage(gated, up, "refused", rate=10)
        assert_found(gated, "refused", broke, recovered)
        assert_served_otherwise(gated, broke, recovered)
        unchecked = gated.visits.of("unchecked")
        refilled = int((unchecked[-1].ended - unchecked[0].began) * 20 / 60)
        gated.measure(f"{len(unchecked)} unchecked", f"20 + {refilled}")
        assert 20 <= len(unchecked) <= 20 + refilled


@pytest.mark.parametrize(
    ("adapter", "kind"),
    [("asyncio", "refused"), ("asyncio", "blackhole"), ("trio", "502"), ("threads", "refused")],
)
async def test_disaster_tickets_alone_find_an_outage(adapter, kind):
    async with site("disaster tickets", adapter, disaster_tickets="allow") as (gated, up):
        broke, recovered = await outage(gated, up, kind, make=disaster_ticket)
        opened = assert_found(gated, kind, broke, recovered)
        assert_served_otherwise(gated, broke, recovered, "disaster_ticket")
        unchecked = gated.visits.of("unchecked")
        assert all(opened <= visit.ended <= recovered + CLOSES_WITHIN for visit in unchecked)
        assert len(unchecked) >= 2
