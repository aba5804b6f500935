"""A deadline for something awaited that costs next to nothing where there is no wait.

Most waits of a gate are over before they begin: a body that has arrived already, a ticket that
is claimed in memory. Such are asked first, and get a deadline only once they have to wait.
"""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Await `work`, for so long at most.

    Args:
        seconds: How long, from its first wait on.
        work: What is awaited; it is cancelled when time is up.

    Raises:
        TimeoutError: Time is up.
    """
    if not _on_asyncio():
        with anyio.fail_after(seconds):
            return await work
    steps = work.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        answer: T = done.value
        return answer
    # Not anyio's: a scope of `work` may be open by now, and ours would lie crosswise to it.
    async with asyncio.timeout(seconds):
        return await _rest(steps, waits_for)


@types.coroutine
def _rest(steps: Generator[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Go on with what was begun: `yield from`, one step late (PEP 380)."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # cancellation too has to reach what waits
                waits_for = steps.throw(error)
            else:
                waits_for = steps.send(sent)
    except StopIteration as done:
        answer: T = done.value
        return answer


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
