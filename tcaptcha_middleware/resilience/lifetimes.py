"""Values that live as long as an event loop, or as a process: what holds sockets open.

A socket of one loop is of no use to another, and one that a fork shares mixes up answers.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.lowlevel import RunVar

T = TypeVar("T")
_number = count()


class PerLoop(Generic[T]):
    """One value for each event loop, of asyncio or trio, made on first use.

    Args:
        make: Makes one.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        # The WSGI face keeps values of a process, and has no use for loops.
        from anyio.lowlevel import RunVar

        self._make = make
        # Older releases of anyio tell variables apart by their names.
        self._kept: RunVar[T | None] = RunVar(f"tcaptcha {next(_number)}", None)

    def get(self) -> T:
        """Return the running loop's value."""
        kept = self._kept.get()
        if kept is None:
            kept = self._make()
            self._kept.set(kept)
        return kept

    def take(self) -> T | None:
        """Return the running loop's value, if there is one, and forget it."""
        kept = self._kept.get()
        self._kept.set(None)
        return kept


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
