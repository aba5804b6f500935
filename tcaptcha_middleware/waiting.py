"""Run steps that wait, written once for sync and async.

Steps are generators that never block. They yield what they wait for, and receive True once it
is there, or False if it did not come within the time they set.
"""

from __future__ import annotations

import select
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tcaptcha_middleware.scoped import Wakeup, asyncio_loop
from tcaptcha_middleware.threadpool import is_done

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from socket import socket

FOREVER = float("inf")  # no limit but the deadline of the whole


@dataclass(slots=True, eq=False)
class Ready:
    """Wait until one of several sockets can be read, or written, for so many seconds."""

    sockets: Sequence[socket]
    writing: bool = False
    seconds: float = FOREVER

    def block(self, seconds: float) -> bool:
        """Wait in this thread."""
        if not hasattr(select, "poll"):
            # Windows reports connections that failed as the third kind of event.
            writing = self.sockets if self.writing else []
            ready = select.select([] if writing else self.sockets, writing, writing, seconds)
            return any(ready)
        poll = select.poll()  # select() is limited to the first 1024 files
        for each in self.sockets:
            poll.register(each, select.POLLOUT if self.writing else select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    async def pause(self, seconds: float) -> bool:
        """Wait in the event loop."""
        loop, wakeup = asyncio_loop(), Wakeup()
        if loop is None or len(self.sockets) > 1:
            return await self._pause_anyhow(seconds)
        file = self.sockets[0].fileno()
        add = loop.add_writer if self.writing else loop.add_reader
        try:
            add(file, wakeup.resolve)  # anyio takes three times as long for the same
        except NotImplementedError:  # the default loop of Windows
            return await self._pause_anyhow(seconds)
        try:
            return await wakeup.wait(seconds)
        finally:
            (loop.remove_writer if self.writing else loop.remove_reader)(file)

    async def _pause_anyhow(self, seconds: float) -> bool:
        import anyio

        async def first(each: socket) -> None:
            await wait(each)
            tasks.cancel_scope.cancel()

        wait = anyio.wait_writable if self.writing else anyio.wait_readable
        with anyio.move_on_after(seconds) as limit:
            if len(self.sockets) == 1:
                await wait(self.sockets[0])
            else:
                async with anyio.create_task_group() as tasks:
                    for each in self.sockets:
                        tasks.start_soon(first, each)
        return not limit.cancelled_caught


@dataclass(slots=True, eq=False)
class Done:
    """Wait for the end of a call in another thread, for so many seconds."""

    future: Future[Any]
    seconds: float = FOREVER

    def block(self, seconds: float) -> bool:
        """Wait in this thread."""
        with suppress(TimeoutError):
            self.future.exception(seconds)
        return self.future.done()

    async def pause(self, seconds: float) -> bool:
        """Wait in the event loop."""
        return await is_done(self.future, seconds)


T = TypeVar("T")
Steps = Generator[Ready | Done, bool, T]


class DeadlineError(Exception):
    """The steps did not end in time."""


def run(steps: Steps[T], deadline: float) -> T:
    """Run `steps` in this thread.

    Args:
        steps: The steps; a DeadlineError is raised in them when their time is over.
        deadline: When it is, by `time.monotonic`.
    """
    try:
        wait = next(steps)
        while True:
            seconds = deadline - time.monotonic()
            is_there = seconds > 0 and wait.block(min(wait.seconds, seconds))
            if is_there or wait.seconds < seconds:
                wait = steps.send(is_there)
            else:
                wait = steps.throw(DeadlineError())
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()


async def arun(steps: Steps[T], deadline: float) -> T:
    """Same as `run`, but awaited."""
    try:
        wait = next(steps)
        while True:
            seconds = deadline - time.monotonic()
            is_there = seconds > 0 and await wait.pause(min(wait.seconds, seconds))
            if is_there or wait.seconds < seconds:
                wait = steps.send(is_there)
            else:
                wait = steps.throw(DeadlineError())
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        steps.close()
