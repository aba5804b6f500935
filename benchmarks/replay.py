"""Processor time that a claim in Redis takes in this process, 64 in flight.

The peer is one plain `SET NX PX` of redis-py for each claim, over connections that are kept.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from measure import Budget, Figures, Row, interleaved

from tcaptcha_middleware.replay.redis import RedisReplayStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

ROUNDS = 9
_IN_FLIGHT = 64
_EACH = 30
_MICRO = 1e6
_LIFETIME = 60


def rows() -> Iterator[Row]:
    """Measure all."""
    if shutil.which("redis-server") is None:
        print("skipped: replay: redis-server is not installed", file=sys.stderr)
        return
    with _redis() as url:
        yield _row(f"claim in Redis, {_IN_FLIGHT} in flight", _async_takes(url))
        yield _row(f"claim in Redis, sync, {_IN_FLIGHT} threads", _sync_takes(url))


def _row(what: str, takes: dict[str, Callable[[], float]]) -> Row:
    figures = {name: Figures(values) for name, values in interleaved(takes, ROUNDS).items()}
    budget = Budget(45, 100, figures["redis-py"], "redis-py")
    return Row(what, "us", figures, "ours", budget)


def _async_takes(url: str) -> dict[str, Callable[[], float]]:
    from redis import asyncio as redis_asyncio

    async def ours() -> float:
        store = RedisReplayStore(url)
        try:
            return await _load(lambda key: store.aclaim(key, "t", _LIFETIME))
        finally:
            await store.aclose()

    async def plain() -> float:
        async with redis_asyncio.Redis.from_url(url, protocol=2) as client:
            return await _load(lambda key: client.set(key, "t", nx=True, px=60000))

    return {"ours": lambda: asyncio.run(ours()), "redis-py": lambda: asyncio.run(plain())}


def _sync_takes(url: str) -> dict[str, Callable[[], float]]:
    from redis import Redis

    store, client = RedisReplayStore(url), Redis.from_url(url, protocol=2)
    return {
        "ours": partial(_load_threads, lambda key: store.claim(key, "t", _LIFETIME)),
        "redis-py": partial(_load_threads, lambda key: client.set(key, "t", nx=True, px=60000)),
    }


async def _load(claim: Callable[[str], Awaitable[Any]]) -> float:
    async def worker(times: int) -> None:
        for _ in range(times):
            if not await claim(secrets.token_hex(16)):
                raise AssertionError("a new key was not claimed")

    async def workers(times: int) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(_IN_FLIGHT):
                group.create_task(worker(times))

    await workers(1)  # opens the connections
    began = time.process_time()
    await workers(_EACH)
    return _MICRO * (time.process_time() - began) / (_IN_FLIGHT * _EACH)


def _load_threads(claim: Callable[[str], Any]) -> float:
    def worker() -> None:
        for _ in range(_EACH):
            if not claim(secrets.token_hex(16)):
                raise AssertionError("a new key was not claimed")

    threads = [threading.Thread(target=worker) for _ in range(_IN_FLIGHT)]
    began = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _MICRO * (time.process_time() - began) / (_IN_FLIGHT * _EACH)


@contextmanager
def _redis() -> Iterator[str]:
    """Serve an empty Redis on a free port during the context; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError("redis-server did not start")
