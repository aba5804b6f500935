"""The health component in front of a service that follows a script, on a simulated clock.

The figures are those that users are promised: how many visitors a short failure costs, how soon
an outage and its end are noticed, and that no delay of this process looks like an outage.
"""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from health_simulation import Service, Simulation
from hypothesis import given, settings
from hypothesis import strategies as st

from tcaptcha_middleware.health.monitor import State

KINDS = ["refused", "reset", "502", "blackhole", "hang"]


@pytest.mark.parametrize("kind", ["refused", "reset", "502"])
@pytest.mark.parametrize(("seconds", "refused"), [(0.1, 6), (0.25, 15), (0.5, 30), (1.5, 90)])
def test_a_short_failure_costs_the_visitors_who_come_meanwhile(seconds, refused, kind):
    service = Service([(2, 2 + seconds, kind)])
    run = Simulation(service).arrive(60, 0, 10).run(20)
    assert run.count("refused", "let in", "overloaded") <= refused + 1
    assert run.count("refused", "let in", begin=2 + seconds + 0.1) == 0


@pytest.mark.parametrize("seed", range(5))
def test_two_failed_probes_within_a_short_failure_keep_the_gate_closed_for_two_seconds(seed):
    service = Service([(2, 3.65, "reset")])
    run = Simulation(service, seed=seed).arrive(60, 0, 10).run(20)
    assert run.count("refused", "let in") <= 60 * (1.65 + 1.6)
    assert run.states[-1][1] is State.UP
    assert run.states[-1][0] < 3.65 + 2


@pytest.mark.parametrize("rate", [2, 60])
def test_half_of_all_calls_reset(rate):
    service = Service([(1, inf, "half")])
    run = Simulation(service).arrive(rate, 1, 61).run(80)
    assert run.count("passed") >= 0.4 * rate * 60
    assert run.count("let in") == 0


@pytest.mark.parametrize("timeout", [1.0, 5.0])
@pytest.mark.parametrize(("capacity", "rate"), [(50, 100), (80, 160), (200, 400)])
def test_a_service_that_queues_calls_keeps_its_throughput(capacity, rate, timeout):
    run = Simulation(Service(capacity=capacity), timeout=timeout).arrive(rate, 0, 20).run(30)
    assert run.count("passed") >= 0.9 * capacity * 20
    assert run.went_down == []


@pytest.mark.parametrize("timeout", [1.0, 5.0])
@pytest.mark.parametrize("capacity", [5, 10, 50])
def test_made_up_tickets_at_a_slow_service_let_no_visitor_in(capacity, timeout):
    run = Simulation(Service(capacity=capacity), timeout=timeout)
    run.arrive(10, 0, 40).arrive(100, 0, 40, "made-up").run(60)
    assert run.went_down == []


OWN = {
    "a flood": ({}, 4000),
    "a flood and a slow service": ({"capacity": 50}, 4000),
    "a blocked event loop": ({"blocks": [(n * 2.0, n * 2.0 + 0.35) for n in range(20)]}, 0),
    "a loop blocked beyond the timeout": ({"blocks": [(3.01, 9.01), (9.02, 15.1)]}, 0),
    "a stopped process": ({"stops": [(3.02, 9.02)]}, 0),
    "a process stopped again and again": (
        {"stops": [(3.02 + 7 * n, 9.02 + 7 * n) for n in range(5)]},
        0,
    ),
}


@pytest.mark.parametrize("rate", [1, 60])
@pytest.mark.parametrize(("process", "flood"), OWN.values(), ids=OWN)
def test_delays_in_this_process_are_not_an_outage(process, flood, rate):
    process = dict(process)
    run = Simulation(Service(capacity=process.pop("capacity", inf)), **process)
    run.arrive(rate, 0, 40).arrive(flood * 20, 3, 3.05, "flood").run(60)
    assert run.count("let in") == run.count("let in", kind="flood") == 0
    assert run.states[-1][1] is State.UP


OPENS_WITHIN = {"hang": 8.0}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_and_its_end_are_found_in_time(kind, seed):
    service = Service([(10.3, 40.3, kind)])
    run = Simulation(service, seed=seed).arrive(1, 0, 60).run(80)
    assert 11 < run.went_down[0] <= 11 + OPENS_WITHIN.get(kind, 5.0)
    assert len(run.went_down) == 1
    assert 40.3 < run.states[-1][0] <= 40.3 + 2
    assert run.count("let in") > 20
    assert run.count("refused", "overloaded") <= 3


@pytest.mark.parametrize("rate", [10, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_is_found_under_load(kind, rate):
    # A service that accepts connections and never answers may also be busy with calls that
    # were abandoned, so an outage is established only some time after them.
    service = Service([(2.3, 72.3, kind)])
    run = Simulation(service).arrive(rate, 0, 80).run(90)
    assert run.went_down[0] <= 2.4 + (55 if kind == "hang" else 5)
    assert 72.3 < run.states[-1][0] <= 72.3 + 2
    assert run.last_let_in <= 72.3 + 2


@pytest.mark.parametrize("kind", KINDS)
def test_disaster_tickets_alone_find_an_outage_and_never_fail_open_while_up(kind):
    service = Service([(10.3, 40.3, kind)])
    run = Simulation(service).arrive(1, 0, 60, "disaster").run(80)
    assert 10.3 < run.went_down[0] <= 10.3 + 6
    assert run.count("let in", kind="disaster", end=10.3) == 0
    assert run.count("let in", kind="disaster") > 20
    assert run.last_let_in <= 40.3 + 2


def test_a_flood_of_disaster_tickets_causes_one_probe_per_second_at_most():
    run = Simulation(Service()).arrive(100, 0, 60, "disaster").run(80)
    assert 30 <= len(run.probes) <= 60
    assert min(after - before for before, after in pairwise(run.probes)) >= 1


@pytest.mark.parametrize("period", [0.5, 1.0, 2.0, 3.0, 5.0])
def test_a_service_that_flaps_is_believed_down_no_longer_than_it_is(period):
    faults = [(n * 2 * period, n * 2 * period + period, "reset") for n in range(30)]
    run = Simulation(Service(faults)).arrive(10, 0, 60).run(80)
    assert run.count("passed") >= 0.3 * 10 * 60
    ends = sorted(end for _, end, _ in faults)
    for (time, state), (after, _) in pairwise(run.states):
        if state is State.DOWN:
            assert after <= min(end for end in ends if end > time) + 2


def test_probing_ends_with_the_visitors():
    run = Simulation(Service([(2, inf, "refused")])).arrive(1, 0, 10).run(1000)
    assert 90 <= len(run.probes) <= 135
    assert run.probes[-1] < 10 + 122
    assert run.health.state is State.SUSPECT
    probes = len(run.probes)
    run.arrive(1, 1000, 1010).run(1020)
    assert len(run.probes) > probes
    assert run.count("let in", begin=1000) >= 7


# -- No delay that a client causes is an outage ------

WINDOWS = st.lists(st.tuples(st.floats(0, 20), st.floats(0.01, 8)), max_size=6).map(
    lambda pairs: [(begin, begin + length) for begin, length in pairs]
)
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([1, 5, 60, 400]),
        st.floats(0, 20),
        st.floats(0.05, 2),
        st.sampled_from(["honest", "disaster"]),
    ),
    min_size=1,
    max_size=4,
)
SERVICES = st.builds(
    Service, latency=st.floats(0.001, 0.5), capacity=st.sampled_from([inf, 200, 50])
)


@settings(max_examples=80)
@given(
    service=SERVICES,
    stops=WINDOWS,
    blocks=WINDOWS,
    arrivals=ARRIVALS,
    timeout=st.sampled_from([0.3, 1.0, 5.0]),
)
def test_a_delay_caused_by_clients_is_never_an_outage(
    service, stops, blocks, arrivals, timeout
):
    run = Simulation(service, stops=stops, blocks=blocks, timeout=timeout)
    for rate, begin, length, kind in arrivals:
        run.arrive(rate, begin, begin + length, kind)
    run.arrive(1, 0, 30).run(60)
    assert run.went_down == []
    assert run.count("let in") == 0


@settings(max_examples=30)
@given(
    begin=st.floats(5, 6),
    length=st.floats(12, 30),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
)
def test_every_outage_is_found_and_ends(begin, length, kind, seed):
    service = Service([(begin, begin + length, kind)])
    run = Simulation(service, seed=seed).arrive(1, 0, 60).run(80)
    assert run.went_down
    assert run.went_down[0] <= begin + 1 + OPENS_WITHIN.get(kind, 5.0)
    assert run.states[-1][1] is State.UP
    assert run.states[-1][0] <= begin + length + 2
