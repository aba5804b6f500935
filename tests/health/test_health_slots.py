"""The concurrency limit: slots, and the line of visitors who wait for one."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from tcaptcha_middleware.health import limits as limits_module
from tcaptcha_middleware.health.limits import Slots

LONG = 30.0
both_loops = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def full(limit: int = 1) -> Slots:
    slots = Slots(limit)
    while slots.enter():
        pass
    return slots


def in_thread(work):
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def until(condition):
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize(("max_checks", "limit"), [(1, 1), (8, 8), (64, 64), (256, 64)])
def test_there_are_sixty_four_slots_and_never_more_than_the_user_allows(max_checks, limit):
    slots = Slots(max_checks)
    assert [slots.enter() for _ in range(limit + 1)] == [True] * limit + [False]
    slots.leave()
    assert [slots.enter(), slots.enter()] == [True, False]


def test_a_visitor_who_waits_is_served_before_one_who_just_came():
    slots = full()
    waiter = slots.join(lambda: None)
    slots.leave()
    assert waiter.granted
    assert not slots.enter()
    slots.leave()
    assert slots.enter()


def test_a_visitor_who_waits_cannot_be_overtaken_while_the_limit_grows():
    slots = full(64)
    slots.narrow(is_narrow=True)
    waiters = [slots.join(lambda: None) for _ in range(3)]
    for _ in range(56):
        slots.leave()
    assert not any(waiter.granted for waiter in waiters)
    assert not slots.enter()
    slots.narrow(is_narrow=False)
    assert all(waiter.granted for waiter in waiters)
    assert slots.enter()


def test_slots_are_granted_first_in_first_out():
    slots, order = full(), []
    waiters = [slots.join(lambda number=number: order.append(number)) for number in range(5)]
    assert not slots.settle(waiters.pop(1))
    for _ in range(4):
        slots.leave()
    assert order == [0, 2, 3, 4]
    assert all(slots.settle(waiter) for waiter in waiters)


def test_the_line_is_bounded(monkeypatch):
    monkeypatch.setattr(limits_module, "LINE", 2)
    slots = full()
    waiters = [slots.join(lambda: None) for _ in range(3)]
    assert waiters[2] is None
    assert not slots.wait(LONG)
    assert not asyncio.run(slots.wait_async(LONG))
    slots.settle(waiters[0])
    assert slots.join(lambda: None) is not None


def test_no_time_is_waited_if_a_slot_is_free_by_now():
    slots = Slots(3)
    assert slots.wait(LONG)
    assert asyncio.run(slots.wait_async(LONG))
    assert slots.enter()
    assert not slots.enter()


def test_a_visitor_who_waited_too_long_leaves_the_line():
    slots = full()
    assert not slots.wait(0.001)
    assert not asyncio.run(slots.wait_async(0.001))
    slots.leave()
    assert slots.enter()


class Interrupted(BaseException):
    """Like the signal that stops a worker."""


@pytest.mark.parametrize("granted", [False, True])
def test_an_interrupted_wait_keeps_no_slot(granted, monkeypatch):
    slots = full()

    def interrupted(event, timeout):
        if granted:
            slots.leave()
        raise Interrupted

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(Interrupted):
        slots.wait(LONG)
    if not granted:
        slots.leave()
    assert [slots.enter(), slots.enter()] == [True, False]


@both_loops
def test_a_slot_granted_to_a_cancelled_visitor_is_passed_on(backend):
    slots, passed = full(), []

    async def visitor(name, scope):
        with scope:
            if await slots.wait_async(LONG):
                try:
                    await anyio.lowlevel.checkpoint()
                    passed.append(name)
                finally:
                    slots.leave()

    async def main():
        async with anyio.create_task_group() as group:
            scopes = [anyio.CancelScope() for _ in range(3)]
            for number, scope in enumerate(scopes):
                group.start_soon(visitor, number, scope)
                await anyio.wait_all_tasks_blocked()
            scopes[1].cancel()
            # Granted and cancelled at once.
            slots.leave()
            scopes[0].cancel()
            await anyio.wait_all_tasks_blocked()

    anyio.run(main, backend=backend)
    assert passed == [2]
    assert slots.enter()


@both_loops
def test_another_thread_wakes_a_visitor_of_an_event_loop(backend):
    slots = full()
    taken = []

    async def main():
        taken.append(await slots.wait_async(LONG))

    loop = in_thread(lambda: anyio.run(main, backend=backend))
    until(lambda: slots._line)
    slots.leave()
    loop.join(5)
    assert taken == [True]


def test_visitors_of_threads_and_of_several_loops_wait_in_one_line():
    slots, order = full(), []

    def sync():
        order.append(("sync", slots.wait(LONG)))
        slots.leave()

    async def awaited(name):
        order.append((name, await slots.wait_async(LONG)))
        slots.leave()

    kinds = {
        "sync": sync,
        "asyncio": lambda: anyio.run(awaited, "asyncio", backend="asyncio"),
        "trio": lambda: anyio.run(awaited, "trio", backend="trio"),
    }
    threads = []
    for number, kind in enumerate([*kinds, *kinds], 1):
        threads.append(in_thread(kinds[kind]))
        until(lambda number=number: len(slots._line) == number)
    slots.leave()
    for thread in threads:
        thread.join(5)
    assert order == [(kind, True) for kind in [*kinds, *kinds]]
    assert slots.enter()


def test_a_slot_granted_in_a_closed_loop_is_passed_on():
    slots, tasks = full(), []
    for _ in range(2):
        loop = asyncio.new_event_loop()
        tasks.append(loop.create_task(slots.wait_async(LONG)))
        loop.run_until_complete(asyncio.sleep(0))
        tasks[-1]._log_destroy_pending = False
        loop.close()
    waiter = slots.join(lambda: None)
    slots.leave()
    assert waiter.granted
    for task in tasks:
        # Garbage collection closes it like this, after the event loop has ended.
        with suppress(RuntimeError):
            task.get_coro().close()
    slots.leave()
    assert [slots.enter(), slots.enter()] == [True, False]


def test_more_visitors_than_slots_all_get_one():
    slots, most, under_way = full(4), [], []
    for _ in range(4):
        slots.leave()

    def visit():
        assert slots.enter() or slots.wait(LONG)
        under_way.append(1)
        most.append(len(under_way))
        time.sleep(0.0005)
        under_way.pop()
        slots.leave()

    threads = [in_thread(visit) for _ in range(100)]
    for thread in threads:
        thread.join(10)
    assert len(most) == 100
    assert max(most) <= 4
    assert [slots.enter() for _ in range(5)] == [True] * 4 + [False]


LIMITS = {
    "whole": (lambda slots: None, 64),
    "narrow": (lambda slots: slots.narrow(is_narrow=True), 8),
    "cut": (lambda slots: slots.cut(8), 8),
    "cut twice": (lambda slots: (slots.cut(1), slots.cut(8)), 1),
    "cut and halved": (lambda slots: (slots.cut(1), slots.halve(0)), 1),
    "halved": (lambda slots: slots.halve(0), 32),
    "halved twice at once": (lambda slots: (slots.halve(0), slots.halve(0.9)), 32),
    "halved twice": (lambda slots: (slots.halve(0), slots.halve(1)), 16),
    "halved often": (lambda slots: [slots.halve(second) for second in range(9)], 8),
    "narrow and wide again": (
        lambda slots: (
            (slots.halve(0), slots.narrow(is_narrow=True)) and slots.narrow(is_narrow=False)
        ),
        32,
    ),
    "cut and grown by a round": (
        lambda slots: (slots.cut(8), [slots.grow() for _ in range(9)]),
        9,
    ),
    "grown to the end": (lambda slots: (slots.cut(8), [slots.grow() for _ in range(9999)]), 64),
}


@pytest.mark.parametrize(("change", "limit"), LIMITS.values(), ids=LIMITS)
def test_the_limit_changes(change, limit):
    slots = Slots(256)
    change(slots)
    assert slots.limit == limit
    assert [slots.enter() for _ in range(limit + 1)] == [True] * limit + [False]


def test_a_small_limit_of_the_user_is_not_raised():
    slots = Slots(2)
    slots.narrow(is_narrow=True)
    slots.cut(8)
    slots.halve(0)
    slots.grow()
    assert slots.limit == 2


def test_a_forked_child_begins_with_every_slot():
    slots = full(2)
    slots.join(lambda: None)
    slots.cut(1)
    holder = in_thread(slots._lock.acquire)
    holder.join()
    slots.reset()
    slots.leave()
    assert [slots.enter() for _ in range(3)] == [True, True, False]


def test_a_visitor_of_the_parent_process_leaves_the_line_of_a_child():
    slots = full()
    waiter = slots.join(lambda: None)
    slots.reset()
    assert not slots.settle(waiter)
    assert slots.enter()
