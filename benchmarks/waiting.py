"""Processor time of a request that has to wait for a verification slot, under ASGI.

A verification takes 20 ms of waiting and no processor time; each client sends its next request
as soon as the last one is answered. With more than 576 in flight, some are refused.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from apps import Anyhow, Instant, bare
from measure import Budget, Figures, Row, interleaved

from tcaptcha_middleware import Guard, TCaptchaMiddleware

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware import Submission, Verdict

ROUNDS = 7
_LATENCY = 0.02
_SECONDS = 0.5
_MICRO = 1e6
_PEER = "256 in flight"
_IN_FLIGHT = 64, 256, 512, 1024, 2000
_serial = count()


class _Slow(Instant):
    """A verifier that takes a while."""

    async def averify(self, _: Submission) -> Verdict:
        """Pass every ticket."""
        await asyncio.sleep(_LATENCY)
        return self._verdict


def rows() -> Iterator[Row]:
    """Measure all."""
    takes = {f"{clients} in flight": partial(_take, clients) for clients in _IN_FLIGHT}
    figures = {name: Figures(values) for name, values in interleaved(takes, ROUNDS).items()}
    budget = Budget(1.5, 1, figures[_PEER], _PEER)
    yield Row("a request, 64 slots", "us", figures, "1024 in flight", budget)


def _take(clients: int) -> float:
    return asyncio.run(_load(clients))


async def _load(clients: int) -> float:
    guard = Guard(["POST /login"], _Slow(), replay_store=Anyhow())
    app, answered, end = TCaptchaMiddleware(bare, guard), 0, time.perf_counter() + _SECONDS

    async def send(_: Any) -> None:
        # A server writes to a socket here, and lets the others run.
        await asyncio.sleep(0)

    async def client() -> None:
        nonlocal answered
        while time.perf_counter() < end:
            await app(_scope(), _no_body, send)
            answered += 1

    began = time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return _MICRO * (time.process_time() - began) / answered


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def _scope() -> dict[str, Any]:
    ticket = f"tr03{next(_serial):0128d}*".encode()
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/login",
        "raw_path": b"/login",
        "query_string": b"",
        "root_path": "",
        "headers": [
            (b"host", b"shop.example"),
            (b"x-captcha-ticket", ticket),
            (b"x-captcha-randstr", b"@a1b"),
        ],
        "client": ("203.0.113.7", 4711),
        "server": ("127.0.0.1", 80),
    }
