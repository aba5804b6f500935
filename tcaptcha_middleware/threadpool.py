"""Daemon threads for calls that block: bounded, never queued for, never joined at exit.

`concurrent.futures` joins its threads when the interpreter exits, so one abandoned call delays
the exit by as long as it hangs.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from tcaptcha_middleware.errors import ThrottledError
from tcaptcha_middleware.scoped import PerProcess
from tcaptcha_middleware.waiting import is_done

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from queue import SimpleQueue

P = ParamSpec("P")
T = TypeVar("T")

MAX_THREADS = 256
"""Limit of threads for each pool; above a guard's slots: abandoned calls hold theirs."""


class BoundedThreadPool:
    """Run each call at once in a daemon thread, or refuse it.

    A call that waited for a thread would look as if the other end were slow.

    Args:
        name: Prefix of the threads' names.
        limit: How many calls may run at once.
    """

    def __init__(self, name: str, limit: int = MAX_THREADS) -> None:
        # The parent's threads do not exist in a forked child.
        self._threads = PerProcess(partial(_Threads, name, limit))

    def submit(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Start `call` in a thread.

        Raises:
            ThrottledError: If all threads are busy, or none can be started.
        """
        return self._threads.get().submit(partial(call, *args, **kwargs))

    def close(self) -> None:
        """End each thread after its call; a later `submit` starts new ones."""
        threads = self._threads.take()
        if threads is not None:
            threads.close()


class _Threads:
    """The threads of one process."""

    def __init__(self, name: str, limit: int) -> None:
        from queue import SimpleQueue  # late, as in `submit`

        self._name = name
        self._free = threading.Semaphore(limit)
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = SimpleQueue()
        self._count = 0

    def submit(self, call: Callable[[], T]) -> Future[T]:
        from concurrent.futures import Future  # late: few applications need it

        if not self._free.acquire(blocking=False):
            raise ThrottledError("too many blocking calls at once", answered=False, sent=False)
        if not self._idle.acquire(blocking=False):
            try:
                start_daemon(self._work, self._name)
            except ThrottledError:
                self._free.release()
                raise
            self._count += 1
        future: Future[T] = Future()
        self._calls.put((call, future))
        return future

    def close(self) -> None:
        for _ in range(self._count):
            self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            self._run(*item)
            del item  # holds the call's arguments

    def _run(self, call: Callable[[], Any], future: Future[Any]) -> None:
        future.set_running_or_notify_cancel()
        try:
            result = call()
        except BaseException as error:
            self._leave()
            future.set_exception(error)
        else:
            self._leave()
            future.set_result(result)

    def _leave(self) -> None:
        # Before the caller wakes up, whose next call needs a thread.
        self._idle.release()
        self._free.release()


class SingleFlight(Generic[T]):
    """Run a function in a daemon thread, once at a time; concurrent callers share the result.

    Args:
        name: The thread's name.
        work: The function.
    """

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._name = name
        self._work = work
        self._lock = threading.Lock()
        self._pending: Future[T] | None = None

    def start(self) -> Future[T]:
        """Return the result of the run under way, or of a new one.

        Raises:
            ThrottledError: If no thread can be started.
        """
        from concurrent.futures import Future

        with self._lock:
            pending = self._pending
            if pending is None:
                pending = self._pending = Future()
                try:
                    start_daemon(partial(self._run, pending), self._name)
                except ThrottledError:
                    self._pending = None
                    raise
            return pending

    def _run(self, pending: Future[T]) -> None:
        try:
            result = self._work()
        except BaseException as error:
            self._pending = None
            pending.set_exception(error)
        else:
            self._pending = None
            pending.set_result(result)


def start_daemon(work: Callable[[], None], name: str) -> None:
    """Start a thread that the interpreter does not wait for.

    Raises:
        ThrottledError: If no thread can be started, or the interpreter is exiting.
    """
    try:
        threading.Thread(target=work, name=name, daemon=True).start()
    except RuntimeError:
        message = "no thread can be started: raise the limit of processes (ulimit -u)"
        raise ThrottledError(message, answered=False, sent=False) from None


async def result_of(future: Future[T]) -> T:
    """Return the result of a call in another thread, awaited.

    If this is cancelled, the call goes on and its result is dropped.
    """
    await is_done(future)
    return future.result()
