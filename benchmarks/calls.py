"""Verifications for each second of processor time, and how long each takes.

The upstream is another process, whose processor time does not count. With a core to itself, a
client reaches as many a second by the clock.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from contextlib import AsyncExitStack, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import callers
from measure import Budget, Figures, Row, interleaved
from upstream import upstream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from callers import AsyncCall, Call

ROUNDS = 5
_SPELL = 0.25
_IN_FLIGHT = 64
_THREADS = 32
_EACH = 30

_EVERYBODY: dict[str, Callable[..., Awaitable[AsyncCall]]] = {
    "ours": callers.ours,
    "ours over httpx over httpx-aiohttp": callers.ours_over_client,
    "SDK async": callers.sdk_async,
    "SDK sync in 64 threads": callers.sdk_in_threads,
    "httpx": callers.httpx_plain,
    "httpx2": callers.httpx2_plain,
    "httpx over httpx-aiohttp": callers.httpx_over_aiohttp,
    "aiohttp": callers.aiohttp_plain,
    "raw sockets": callers.raw_sockets,
}
_YARDSTICK = "aiohttp"
_SHARE = 1.4
_SOME = {
    name: _EVERYBODY[name]
    for name in ("ours", "SDK async", "httpx", "httpx over httpx-aiohttp", "aiohttp")
}


def rows() -> Iterator[Row]:
    """Measure all."""
    with upstream() as origin:
        yield _row("8 in flight", _SOME, origin, 8)
        yield _row("64 in flight", _EVERYBODY, origin, _IN_FLIGHT)
        yield _row("256 in flight", _SOME, origin, 256)
        yield _sync_row(origin)
        yield _trio_row(origin)
    with upstream(latency=0.02) as origin:
        yield _row("64 in flight, 20 ms upstream", _SOME, origin, _IN_FLIGHT)
    with _certificate() as (pem, tls), upstream(pem=pem) as origin:
        trusting = {
            "ours": partial(callers.ours, tls=tls),
            "httpx": partial(callers.httpx_plain, tls=tls),
            "httpx over httpx-aiohttp": partial(callers.httpx_over_aiohttp, tls=tls),
            "aiohttp": partial(callers.aiohttp_plain, tls=tls),
            "raw sockets": partial(callers.raw_sockets, tls=tls),
        }
        yield _row("64 in flight, TLS", trusting, origin, _IN_FLIGHT)


def _row(
    what: str,
    makers: Mapping[str, Callable[..., Awaitable[AsyncCall]]],
    origin: str,
    in_flight: int,
) -> Row:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            takes = {
                name: _Take(partial(_load, runner, maker, origin, stack, in_flight))
                for name, maker in makers.items()
            }
            figures = _figures(takes)
        finally:
            runner.run(stack.aclose())
    budget = Budget(_SHARE, 1, figures[_YARDSTICK], _YARDSTICK, more=True)
    return Row(f"verifications, {what}", "a CPU second", figures, "ours", budget)


def _sync_row(origin: str) -> Row:
    makers = {
        "ours": callers.ours_sync,
        "SDK": callers.sdk_sync,
        "httpx.Client": callers.httpx_sync,
        "httpx2.Client": callers.httpx2_sync,
        "http.client": callers.http_client_sync,
    }
    with ExitStack() as stack:
        takes = {
            name: _Take(partial(_load_threads, maker, origin, stack))
            for name, maker in makers.items()
        }
        figures = _figures(takes)
    what = f"verifications, sync, {_THREADS} threads"
    budget = Budget(2.4, 1, figures["http.client"], "http.client", more=True)
    return Row(what, "a CPU second", figures, "ours", budget)


def _trio_row(origin: str) -> Row:
    async def main() -> float:
        async with AsyncExitStack() as stack:
            call = await callers.ours(origin, stack)

            async def worker(times: int) -> None:
                for _ in range(times):
                    await call()

            async def workers(times: int) -> None:
                async with anyio.create_task_group() as group:
                    for _ in range(_IN_FLIGHT):
                        group.start_soon(worker, times)

            await workers(1)  # opens the connections
            began = time.process_time()
            await workers(_EACH)
            return _IN_FLIGHT * _EACH / (time.process_time() - began)

    backends = {"ours": "trio", "ours on asyncio": "asyncio"}
    takes = {
        name: partial(anyio.run, main, backend=backend) for name, backend in backends.items()
    }
    figures = {name: Figures(values) for name, values in interleaved(takes, ROUNDS).items()}
    return Row("verifications, 64 in flight, trio", "a CPU second", figures, "ours")


class _Take:
    """Calls for each second of processor time; keeps the client, and how long each call took.

    The first take warms up: it opens the connections, so the percentiles do not include that.
    """

    def __init__(self, load: Callable[[dict[str, Any], list[float]], None]) -> None:
        self._load = load
        self._made: dict[str, Any] = {}
        self._is_warm = False
        self.seconds: list[float] = []

    def __call__(self) -> float:
        seconds: list[float] = []
        began = time.process_time()
        self._load(self._made, seconds)
        if self._is_warm:
            self.seconds += seconds
        self._is_warm = True
        return len(seconds) / (time.process_time() - began)


def _figures(takes: Mapping[str, _Take]) -> dict[str, Figures]:
    rounds = interleaved(takes, ROUNDS)
    return {name: Figures(rates, _percentiles(takes[name])) for name, rates in rounds.items()}


def _percentiles(take: _Take) -> str:
    cuts = statistics.quantiles(take.seconds, n=100)
    return f"p50 {1000 * cuts[49]:.1f} ms, p99 {1000 * cuts[98]:.1f} ms"


def _load(  # noqa: PLR0913, PLR0917  the call, its settings and its results
    runner: asyncio.Runner,
    maker: Callable[..., Awaitable[AsyncCall]],
    origin: str,
    stack: AsyncExitStack,
    in_flight: int,
    made: dict[str, Any],
    seconds: list[float],
) -> None:
    async def worker(call: AsyncCall, end: float) -> None:
        while (began := time.perf_counter()) < end:
            await call()
            seconds.append(time.perf_counter() - began)

    async def run() -> None:
        if "call" not in made:
            made["call"] = await maker(origin, stack)
        end = time.perf_counter() + _SPELL
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(worker(made["call"], end))

    runner.run(run())


def _load_threads(
    maker: Callable[[str, ExitStack], Call],
    origin: str,
    stack: ExitStack,
    made: dict[str, Any],
    seconds: list[float],
) -> None:
    if "call" not in made:
        made["call"] = maker(origin, stack)
    call, end = made["call"], time.perf_counter() + _SPELL

    def worker() -> None:
        while (began := time.perf_counter()) < end:
            call()
            seconds.append(time.perf_counter() - began)

    threads = [threading.Thread(target=worker) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def _certificate() -> Iterator[tuple[str, ssl.SSLContext]]:
    """Give a key and certificate for localhost, and a context that trusts them."""
    import ssl

    import trustme

    authority = trustme.CA()
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with tempfile.TemporaryDirectory() as folder:
        pem = Path(folder, "localhost.pem")
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
        yield str(pem), tls
