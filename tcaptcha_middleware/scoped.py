"""Values of one event loop, or of one process, such as connections.

A socket of one loop does not work in another, and one that a fork shares mixes up answers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from tcaptcha_middleware.waiting import running_loop

if TYPE_CHECKING:
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
