"""Runs the scenarios of this folder side by side, because they wait most of the time.

Each test is an async function without fixtures. They share one event loop in a thread. A test
marked `load(n)` takes n units of a shared capacity; a test that takes all of it runs alone.
"""

from __future__ import annotations

import asyncio
import inspect
import resource
import threading
from pathlib import Path

import pytest
from hostile_site import measured, shared_redis

CAPACITY = 12
FOLDER = Path(__file__).parent
TIMEOUT = 100


class Capacity:
    """A semaphore of which a scenario acquires several units at once, in FIFO order."""

    def __init__(self) -> None:
        self._free = CAPACITY
        self._line = asyncio.Lock()
        self._changed = asyncio.Condition()

    async def run(self, units: int, scenario) -> None:
        async with self._line, self._changed:
            await self._changed.wait_for(lambda: self._free >= units)
            self._free -= units
        try:
            async with asyncio.timeout(TIMEOUT):
                await scenario()
        finally:
            async with self._changed:
                self._free += units
                self._changed.notify_all()


class Scenarios:
    """Starts all selected scenarios when the first test runs."""

    def __init__(self, items) -> None:
        shared_redis()  # blocks until it answers
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scenarios")
        self._thread.start()
        # The light scenarios first, while the heavy ones have to wait anyway.
        items = sorted(items, key=load)
        self._futures = {}
        capacity = asyncio.run_coroutine_threadsafe(self._capacity(), self._loop).result()
        for item in items:
            arguments = dict(item.callspec.params) if hasattr(item, "callspec") else {}

            def scenario(test=item.obj, arguments=arguments):
                return test(**arguments)

            running = capacity.run(load(item), scenario)
            self._futures[item] = asyncio.run_coroutine_threadsafe(running, self._loop)

    async def _capacity(self) -> Capacity:
        return Capacity()

    def result(self, item) -> None:
        self._futures[item].result()

    def close(self) -> None:
        async def cancel() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(cancel(), self._loop).result(TIMEOUT)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def load(item) -> int:
    marker = item.get_closest_marker("load")
    return marker.args[0] if marker else 1


def is_scenario(item) -> bool:
    return FOLDER in item.path.parents and inspect.iscoroutinefunction(item.obj)


_running: list[Scenarios] = []


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not is_scenario(pyfuncitem):
        return None
    if not _running:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
        _running.append(Scenarios(filter(is_scenario, pyfuncitem.session.items)))
    _running[0].result(pyfuncitem)
    return True


def pytest_sessionfinish():
    while _running:
        _running.pop().close()
    if shared_redis.cache_info().currsize:
        shared_redis().kill()


def pytest_terminal_summary(terminalreporter):
    if measured:
        terminalreporter.section("measured")
        widths = [max(len(row[column]) for row in measured) for column in range(2)]
        for name, what, bound in sorted(measured):
            terminalreporter.write_line(f"{name:{widths[0]}}  {what:{widths[1]}}  {bound}")
