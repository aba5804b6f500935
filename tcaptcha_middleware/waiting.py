"""Wait for sockets, threads and events, with one set of steps for sync and async.

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

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from concurrent.futures import Future
    from socket import socket

FOREVER = float("inf")  # no limit but the deadline of the whole


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop of asyncio, or None on trio."""
    # Imported late, because the WSGI adapter works without event loops.
    import asyncio

    try:
        # Not the running loop: that exists under trio as a guest of asyncio, too.
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else task.get_loop()


def running_loop() -> Any:
    """Return the running event loop of asyncio, or trio's token for its own."""
    loop = asyncio_loop()
    if loop is not None:
        return loop
    from anyio.lowlevel import current_token

    token = current_token()
    # Older releases of anyio do not wrap it.
    return getattr(token, "native_token", token)


class Wakeup:
    """An event that a task of the running loop waits for, and any thread can set."""

    def __init__(self) -> None:
        self._loop = asyncio_loop()
        if self._loop is not None:
            self._is_set: asyncio.Future[bool] = self._loop.create_future()
        else:
            import anyio

            self._event, self._token = anyio.Event(), running_loop()

    def set(self) -> None:
        """Set the event.

        Raises:
            RuntimeError: If the loop has ended.
        """
        if self._loop is None:
            self._token.run_sync_soon(self._event.set)
        elif asyncio_loop() is self._loop:
            self.resolve()
        else:
            self._loop.call_soon_threadsafe(self.resolve)

    def resolve(self, value: bool = True) -> None:  # noqa: FBT002  for callbacks
        """Set the event from a callback of the loop of asyncio; False means a timeout."""
        if not self._is_set.done():
            self._is_set.set_result(value)

    async def wait(self, seconds: float) -> bool:
        """Wait until the event is set; return False after so many seconds."""
        if self._loop is None:
            import anyio

            with anyio.move_on_after(seconds):
                await self._event.wait()
            return self._event.is_set()
        if seconds == FOREVER:
            return await self._is_set
        timer = self._loop.call_later(seconds, self.resolve, False)  # noqa: FBT003
        try:
            return await self._is_set
        finally:
            timer.cancel()


async def is_done(future: Future[Any], seconds: float = FOREVER) -> bool:
    """Wait until a call in another thread has ended, on asyncio and trio.

    Args:
        future: The call.
        seconds: How long to wait.
    """
    wakeup = Wakeup()

    def resume(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            wakeup.set()

    future.add_done_callback(resume)
    return await wakeup.wait(seconds)


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
        loop = asyncio_loop()
        if loop is None or len(self.sockets) > 1:
            return await self._pause_with_anyio(seconds)
        wakeup = Wakeup()
        file = self.sockets[0].fileno()
        add = loop.add_writer if self.writing else loop.add_reader
        try:
            add(file, wakeup.resolve)  # anyio's wait with a deadline takes half as long again
        except NotImplementedError:  # the default loop of Windows
            return await self._pause_with_anyio(seconds)
        try:
            return await wakeup.wait(seconds)
        finally:
            (loop.remove_writer if self.writing else loop.remove_reader)(file)

    async def _pause_with_anyio(self, seconds: float) -> bool:
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
