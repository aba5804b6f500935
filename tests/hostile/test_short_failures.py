"""A short or partial failure of the upstream refuses few visitors, and never fails open."""

from __future__ import annotations

import asyncio
import time

import pytest
from hostile_site import made_up_ticket, site

pytestmark = pytest.mark.hostile

RATE = 60
PROBED_WITHIN = 1.0


@pytest.mark.load(4)
@pytest.mark.parametrize(
    ("adapter", "policy"), [("asyncio", "deny"), ("trio", "allow"), ("threads", "deny")]
)
async def test_a_blip_of_100_ms_refuses_visitors_for_a_second_at_most(adapter, policy):
    async with site("blip of 100 ms", adapter, on_unavailable=policy) as (gated, up):
        coming = asyncio.create_task(gated.stream(RATE, 5))
        await asyncio.sleep(1.5)
        began = await up.behave("reset", seconds=0.1)
        refused = (await coming).refused
        last = max((visit.began for visit in refused), default=began)
        gated.measure(f"{len(refused)} of {len(gated.visits)} refused", f"{RATE} in 1 s")
        gated.measure(f"the last after {last - began:.2f} s", "1.1 s")
        assert all(began - 0.1 <= visit.began for visit in refused)
        assert last <= began + 0.1 + PROBED_WITHIN
        assert gated.visits.count("unchecked") == 0
        assert gated.when("down") == []


@pytest.mark.load(4)
@pytest.mark.parametrize(("adapter", "policy"), [("asyncio", "allow"), ("threads", "allow")])
async def test_a_reload_of_a_load_balancer_refuses_visitors_for_as_long_as_it_takes(
    adapter, policy
):
    async with site("reload of 250 ms", adapter, on_unavailable=policy) as (gated, up):
        coming = asyncio.create_task(gated.stream(RATE, 5))
        await asyncio.sleep(1.5)
        began = await up.behave("refused", seconds=0.25)
        refused = (await coming).refused
        gated.measure(f"{len(refused)} of {len(gated.visits)} refused", f"{RATE} in 1 s")
        assert max(visit.began for visit in refused) <= began + 0.25 + PROBED_WITHIN
        assert gated.visits.count("unchecked") == 0


@pytest.mark.load(4)
@pytest.mark.parametrize("adapter", ["asyncio", "trio", "threads"])
async def test_with_half_of_all_calls_reset_two_in_five_visitors_get_in(adapter):
    async with site("half reset", adapter, on_unavailable="allow") as (gated, up):
        await up.behave("reset", share=0.5)
        await gated.stream(RATE, 6)
        passed = gated.visits.count("passed")
        gated.measure(f"{passed / len(gated.visits):.0%} get in", "at least 40 %")
        assert passed >= 0.4 * len(gated.visits)
        assert gated.visits.count("unchecked") == 0


@pytest.mark.load(3)
@pytest.mark.parametrize(
    ("adapter", "number", "silently"),
    [
        ("asyncio", 12, False),
        ("asyncio", 60, True),
        ("trio", 12, True),
        ("trio", 60, False),
        ("threads", 12, True),
        ("threads", 60, False),
        ("threads", 60, True),
    ],
)
async def test_dead_kept_connections_cost_two_visitors_at_most(adapter, number, silently):
    name = f"{number} {'silently dead' if silently else 'closed'} connections"
    async with site(name, adapter) as (gated, up):
        await up.tune(latency=0.4)
        warm = await gated.together(number)
        assert warm.outcomes == {"passed": number}
        await up.tune()
        assert await up.drop(silently=silently) >= 0.8 * number
        visits = await gated.stream(20, 3)
        gated.measure(f"{len(visits.refused)} of {len(visits)} refused", "at most 2")
        assert len(visits.refused) <= 2
        assert len(await up.calls("silent")) >= (1 if silently else 0)


def answered(gated, ends):
    """Return how many tickets the upstream judged for a visitor, until just after `ends`."""
    return sum(
        visit.outcome in ("passed", "ticket_rejected") and visit.ended <= ends + 0.5
        for visit in gated.visits
    )


@pytest.mark.load(6)
@pytest.mark.parametrize("adapter", ["asyncio", "threads"])
async def test_an_upstream_that_queues_calls_keeps_its_goodput(adapter):
    capacity, seconds = 50, 10
    async with site("50/s offered 100/s", adapter) as (gated, up):
        await up.tune(capacity=capacity)
        ends = time.monotonic() + seconds
        await gated.stream(2 * capacity, seconds)
        passed = answered(gated, ends)
        gated.measure(f"{passed / capacity / seconds:.0%} of its goodput", "at least 70 %")
        assert passed >= 0.7 * capacity * seconds
        assert gated.when("down") == []


@pytest.mark.load(6)
@pytest.mark.parametrize("adapter", ["asyncio", "threads"])
async def test_made_up_tickets_at_a_queueing_upstream_let_no_one_in(adapter):
    async with site("made-up tickets, 50/s", adapter, on_unavailable="allow", timeout="2") as (
        gated,
        up,
    ):
        await up.tune(capacity=50)
        ends = time.monotonic() + 8
        honest, made_up = await asyncio.gather(
            gated.stream(10, 8), gated.stream(150, 8, made_up_ticket)
        )
        gated.measure(f"{answered(gated, ends) / 50 / 8:.0%} of its goodput", "")
        gated.measure(f"{made_up.count('unchecked')} made-up tickets let in", "0")
        gated.measure(f"{honest.count('passed')} of {len(honest)} visitors get in", "")
        assert gated.visits.count("unchecked") == 0
        assert made_up.count("passed") == 0
        assert gated.when("down") == []
