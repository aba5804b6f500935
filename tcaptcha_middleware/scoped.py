"""Values of one event loop, or of one process, such as connections.

A socket of one loop does not work in another, and one that a fork shares mixes up answers.
"""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


class Forkable(Protocol):
    """Holds something that a forked process must not share."""

    def after_fork(self) -> None:
        """Replace it, in the child."""
        ...


_forkable: WeakSet[Forkable] = WeakSet()


def renew_after_fork(instance: Forkable) -> None:
    """Have `instance.after_fork` called in each process that this one forks."""
    _forkable.add(instance)


def _after_fork() -> None:
    # What replaces its parts adds them while this runs.
    for instance in tuple(_forkable):
        instance.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class PerLoop(Generic[T]):
    """One value for each event loop, of asyncio or trio, made on first use.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._kept: WeakKeyDictionary[object, T] = WeakKeyDictionary()

    def get(self) -> T:
        """Return the running loop's value."""
        loop = running_loop()
        kept = self._kept.get(loop)
        return self._fill(loop) if kept is None else kept

    def take(self) -> T | None:
        """Return the running loop's value, if there is one, and forget it."""
        return self._kept.pop(running_loop(), None)

    def _fill(self, loop: object) -> T:
        # A socket of asyncio refers to its loop, so without this both would be kept.
        for key in self._kept.keyrefs():
            other = key()
            if getattr(other, "is_closed", bool)():  # trio's token has no such method
                self._kept.pop(other, None)
        kept = self._kept[loop] = self._make()
        return kept


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
        if seconds == inf:
            return await self._is_set
        timer = self._loop.call_later(seconds, self.resolve, False)  # noqa: FBT003
        try:
            return await self._is_set
        finally:
            timer.cancel()


class PerProcess(Generic[T]):
    """One value for each process, made on first use, also after a fork.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # Without a lock: one held during fork() is never released in the child.
        self._kept: dict[int, T] = {}

    def get(self) -> T:
        """Return this process's value."""
        kept = self._kept.get(os.getpid())
        return self._fill() if kept is None else kept

    def take(self) -> T | None:
        """Return this process's value, if there is one, and forget it."""
        return self._kept.pop(os.getpid(), None)

    def _fill(self) -> T:
        mine = os.getpid()
        kept = self._kept.setdefault(mine, self._make())
        for parent in self._kept.keys() - {mine}:
            self._kept.pop(parent, None)
        return kept
