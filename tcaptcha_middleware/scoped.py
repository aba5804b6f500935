"""Values that live as long as an event loop, or as a process: what holds sockets open.

A socket of one loop is of no use to another, and one that a fork shares mixes up answers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


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
        # A socket of asyncio's holds on to its loop, which would keep both for ever.
        for key in self._kept.keyrefs():
            other = key()
            if _is_over(other):
                self._kept.pop(other, None)
        kept = self._kept[loop] = self._make()
        return kept


def running_loop() -> Any:
    """Return the running event loop of asyncio, or trio's token for its own."""
    # The WSGI face keeps values of a process, and has no use for loops.
    from anyio.lowlevel import current_token

    token = current_token()
    # Older releases of anyio do not wrap it.
    return getattr(token, "native_token", token)


def _is_over(loop: object) -> bool:
    is_closed = getattr(loop, "is_closed", None)
    return is_closed is not None and is_closed()


class PerProcess(Generic[T]):
    """One value for each process, made on first use, also after a fork.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        # No lock: a fork may copy one that a thread holds, which nobody gives back there.
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
