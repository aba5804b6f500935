"""When a failing replay store is skipped, and when it is tried again."""

from __future__ import annotations

import pytest

from tcaptcha_middleware.replay.monitor import (
    FAILURES,
    LOOK_EVERY,
    PAUSE,
    Evictions,
    StoreMonitor,
)


@pytest.fixture
def monitor():
    return StoreMonitor()


def fail(monitor, times, now=0.0):
    for _ in range(times):
        monitor.failed(now)


def test_a_store_is_skipped_after_three_failures_in_a_row(monitor, caplog):
    fail(monitor, 2)
    assert monitor.may_ask(0)
    monitor.succeeded()
    fail(monitor, 2)
    assert monitor.may_ask(0)
    assert caplog.records == []
    fail(monitor, 1)
    assert not monitor.may_ask(0)


def test_a_skipped_store_is_tried_by_one_request_in_five_seconds(monitor):
    fail(monitor, FAILURES, now=100.0)
    times = [100.0, 104.9, 105.0, 105.0, 109.9, 110.0, 110.1]
    assert [monitor.may_ask(now) for now in times] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_late_failures_of_others_do_not_postpone_the_next_try(monitor):
    fail(monitor, FAILURES)
    fail(monitor, 60, now=PAUSE - 0.1)
    assert monitor.may_ask(PAUSE)


def test_one_successful_call_ends_the_pause(monitor):
    fail(monitor, FAILURES)
    assert monitor.may_ask(PAUSE)
    monitor.succeeded()
    assert all(monitor.may_ask(PAUSE) for _ in range(10))
    fail(monitor, FAILURES - 1, PAUSE)
    assert monitor.may_ask(PAUSE)


def test_each_change_of_state_is_logged_once(monitor, caplog):
    fail(monitor, 100)
    monitor.succeeded()
    monitor.succeeded()
    fail(monitor, 1)
    monitor.succeeded()
    assert [record.message for record in caplog.records] == [
        "the replay store failed 3 times in a row: skipping it; one request tries every 5 s",
        "the replay store answers again",
    ]


# -- Evictions ------


def node(count, run_id="a"):
    return {"run_id": run_id, "evicted_keys": count, "maxmemory_policy": "allkeys-lru"}


def test_the_eviction_counters_are_read_every_few_seconds():
    evictions = Evictions()
    times = [0.0, 0.1, LOOK_EVERY - 0.1, LOOK_EVERY, LOOK_EVERY + 0.1]
    assert [evictions.is_due(now) for now in times] == [True, False, False, True, False]


def test_claims_may_be_lost_for_as_long_as_an_evicted_one_would_have_lasted():
    evictions = Evictions()
    evictions.note([node(7)], 0, 330)
    assert not evictions.lost_claims(0)
    evictions.note([node(8)], 5, 330)
    assert evictions.lost_claims(334.9)
    evictions.note([node(8)], 10, 330)
    assert evictions.lost_claims(334.9)
    assert not evictions.lost_claims(335)


OTHER_COUNTERS = {
    "none": [{}],
    "that of a server after a failover": [node(900, "b")],
    "that of a server after a restart": [node(0, "c")],
    "those of a node more": [node(7), node(900, "b")],
}


@pytest.mark.parametrize("nodes", OTHER_COUNTERS.values(), ids=OTHER_COUNTERS)
def test_a_counter_that_is_reset_does_not_count_as_an_eviction(nodes):
    evictions = Evictions()
    evictions.note([node(7)], 0, 330)
    evictions.note(nodes, 5, 330)
    assert not evictions.lost_claims(5)


def test_one_node_that_evicts_is_enough_and_is_logged_once(caplog):
    evictions = Evictions()
    for count in range(5):
        evictions.note([node(0), node(count, "b")], count, 330)
    assert evictions.lost_claims(5)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "noeviction" in caplog.text
