"""The replay store in memory: its limit, its lifetimes, its processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tcaptcha_middleware import MemoryReplayStore, ReplayStoreError

MADE_UP = 100_001


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def kept(store):
    return len(store._claims._by_key)


def test_a_full_store_fails_and_forgets_no_live_claim(clock):
    store = MemoryReplayStore(10, clock)
    assert all(store.claim(str(n), "t", 60) for n in range(10))
    with pytest.raises(ReplayStoreError, match="all 10 claims"):
        store.claim("one more", "t", 60)
    assert not any(store.claim(str(n), "t", 60) for n in range(10))
    clock.now = 60
    assert store.claim("one more", "t", 60)


def test_an_expired_claim_can_be_made_again_in_a_full_store(clock):
    store = MemoryReplayStore(1, clock)
    assert store.claim("a", "t", 0.25)
    clock.now = 0.25
    assert store.claim("a", "t", 60)
    assert not store.claim("a", "t", 60)


def test_a_released_claim_makes_room(clock):
    store = MemoryReplayStore(1, clock)
    store.claim("a", "t", 60)
    store.release("a", "t")
    assert store.claim("b", "t", 60)


def test_made_up_tickets_that_are_released_leave_a_used_ticket_refused():
    store = MemoryReplayStore()
    assert store.claim("used", "t", 330)
    for n in range(MADE_UP):
        assert store.claim(str(n), "t", 330)
        store.release(str(n), "t")
    assert not store.claim("used", "t", 330)
    assert kept(store) == 1
    assert len(store._claims._seconds) <= 60


def test_made_up_tickets_that_stay_fill_the_store_and_leave_a_used_ticket_refused():
    store = MemoryReplayStore()
    store.claim("used", "t", 330)
    made_up = (store.claim(str(n), "t", 330) for n in range(MADE_UP))
    with pytest.raises(ReplayStoreError):
        all(made_up)
    assert not store.claim("used", "t", 330)


def test_claims_with_different_lifetimes_end_in_their_own_time(clock):
    store = MemoryReplayStore(clock=clock)
    for key, seconds in (("long", 300), ("short", 1.5), ("middle", 60)):
        assert store.claim(key, "t", seconds)
    ends = {}
    for now in (1.25, 1.5, 59.75, 60, 299.75, 300):
        clock.now = now
        for key in ("long", "short", "middle"):
            if key not in ends and store.claim(key, "t", 1000):
                ends[key] = now
    assert ends == {"short": 1.5, "middle": 60, "long": 300}


def test_expired_claims_are_removed_a_few_at_a_time(clock):
    store = MemoryReplayStore(clock=clock)
    for n in range(1000):
        store.claim(str(n), "t", 60 + n % 3)
    clock.now = 63
    store.claim("new", "t", 60)
    assert 990 < kept(store) < 1000
    for n in range(200):
        store.claim(f"new{n}", "t", 60)
    assert kept(store) == 201
    assert len(store._claims._by_second) == 1


def test_a_key_that_was_claimed_again_outlives_its_old_expiry(clock):
    store = MemoryReplayStore(clock=clock)
    store.claim("a", "t", 60.5)
    clock.now = 60.5  # expired, and its second is not over
    assert store.claim("a", "t", 60)
    clock.now = 61
    assert not store.claim("a", "t", 60)


def test_a_claim_that_a_fork_cut_short_removes_no_later_one(clock):
    store = MemoryReplayStore(clock=clock)
    store._claims._by_second[1] = {"a": None}
    store._claims._seconds.append(1)
    store.claim("a", "t", 60)
    clock.now = 1
    assert not store.claim("a", "t", 60)


def test_stores_of_a_single_process_share_their_claims():
    first, second = (MemoryReplayStore(single_process=True) for _ in range(2))
    first.clear()
    assert first.claim("a", "t", 60)
    assert not second.claim("a", "t", 60)
    first.clear()
    assert second.claim("a", "t", 60)
    assert MemoryReplayStore().claim("a", "t", 60)
    second.clear()


FORKING = """
import os, signal, sys
from tcaptcha_middleware import MemoryReplayStore
store = MemoryReplayStore()
store.claim("before", "t", 60)
store._claims._lock.acquire()  # as another thread may at the moment of the fork
if os.fork() == 0:
    signal.alarm(10)
    store._claims._by_second[0] = {"half made": None}  # a claim that the fork cut short
    store._claims._seconds.insert(0, 0)
    print(store.claim("before", "t", 60), store.claim("after", "t", 60))
    sys.exit()
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_while_the_lock_is_held_leaves_the_child_a_working_store():
    run = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=True, timeout=30
    )
    assert run.stdout == "False True\n"
