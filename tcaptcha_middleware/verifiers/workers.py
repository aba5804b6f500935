"""Threads of our own, one for each call that blocks; none waits for another's."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

from tcaptcha_middleware.errors import ThrottledError
from tcaptcha_middleware.scoped import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WORKERS = 256
"""How many there are at the most; as many as a guard has checks under way by default."""


class Bulkhead:
    """Bound how many calls are under way at once, so that waiting ones cannot pile up.

    Args:
        limit: How many.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = threading.Lock()

    def enter(self) -> bool:
        """Take a place; False where there is none."""
        with self._lock:
            if self._free == 0:
                return False
            self._free -= 1
            return True

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self._free += 1


class Workers(ThreadPoolExecutor):
    """Threads that the application cannot fill, and that nobody queues for.

    A check that waits for a thread would look as if Tencent were slow, and open the gate.

    Args:
        name: What their names begin with.
    """

    def __init__(self, name: str) -> None:
        super().__init__(WORKERS, name)
        self._places = Bulkhead(WORKERS)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread that is free now.

        Raises:
            ThrottledError: There is none.
        """
        if not self._places.enter():
            raise ThrottledError("too many checks at once", answered=False)
        try:
            call = super().submit(fn, *args, **kwargs)
        except BaseException:
            self._places.leave()
            raise
        call.add_done_callback(lambda _: self._places.leave())
        return call


class PerProcessWorkers(PerProcess[Workers]):
    """The workers of a process, begun on first use; a fork has none of its parent's.

    Args:
        name: What their names begin with.
    """

    def __init__(self, name: str) -> None:
        super().__init__(partial(Workers, name))

    def close(self) -> None:
        """Let each end after what it is doing; others begin when they are needed."""
        workers = self.take()
        if workers is not None:
            workers.shutdown(wait=False)


class Aside:
    """Awaits calls that block, in threads that the application cannot fill.

    While visitors keep those that it shares busy, Tencent would look as if it were down. Each
    kind of call has places of its own, so that one that hangs is in no other's way.
    """

    def __init__(self) -> None:
        self._places = PerProcess(lambda: Bulkhead(WORKERS))

    async def run(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Await `work`; where it is cancelled, its thread is left behind, and keeps its place.

        Args:
            work: What blocks.
            args: What it is called with.

        Raises:
            ThrottledError: There is no place.
        """
        # Those of anyio would not do: on asyncio they forget a thread that is left behind, and
        # on trio whoever comes next would wait for it.
        limiter = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(
            self._placed, work, *args, abandon_on_cancel=True, limiter=limiter
        )

    def _placed(self, work: Callable[[*Ts], T], *args: *Ts) -> T:
        places = self._places.get()
        if not places.enter():
            raise ThrottledError("too many calls at once that block", answered=False)
        try:
            return work(*args)
        finally:
            places.leave()
