"""Send the commands that arrive while others are under way to Redis in one pipeline.

A pipeline costs a fraction of as many single commands. No command is sent twice, and its
answer goes to its own caller only: https://redis.io/docs/latest/develop/using-commands/pipelining/
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from tcaptcha_middleware.errors import ReplayStoreError, needs

with needs("redis"):
    from redis import RedisCluster
    from redis import asyncio as redis_asyncio
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import ReadOnlyError, RedisError
    from redis.exceptions import TimeoutError as RedisTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = tuple[Any, ...]

CLUSTERS = RedisCluster, redis_asyncio.RedisCluster

# After a failover the address may lead to another server, and kept connections to the old one,
# which is read-only or silent, would fail one by one.
_STALE = (ReadOnlyError, RedisConnectionError, RedisTimeoutError, OSError)
_INTERRUPTED = "Redis: the command was interrupted"


class Waiting:
    """A command that waits for its turn.

    Attributes:
        command: The command.
        answer: Redis's answer, or an exception.
        turn: Locked until the command has been sent, or its thread has to send.
        batch: The commands that its thread has to send, if it is its turn.
    """

    __slots__ = ("answer", "batch", "command", "turn")

    def __init__(self, command: Command) -> None:
        self.command: Command = command
        # What remains if the thread that sends it is interrupted.
        self.answer: Any = ReplayStoreError(_INTERRUPTED)
        self.turn: threading.Lock = threading.Lock()
        self.turn.acquire()
        self.batch: list[Waiting] = []


class Pipeline:
    """The commands of all threads of a process to one client.

    One thread sends at a time; then the one that has waited longest sends all that wait.

    Args:
        client: A sync client. The keys of one pipeline may belong to several nodes of a
            cluster, so commands to a cluster are sent one by one.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._shares = not isinstance(client, CLUSTERS)
        self._lock = threading.Lock()
        self._is_busy = False
        self._queue: list[Waiting] = []

    def execute(self, *command: Any) -> Any:
        """Send a command, maybe together with others, and return its answer.

        Raises:
            ReplayStoreError: If Redis is down, slow or full.
        """
        if not self._shares:
            return self.execute_alone(*command)
        waiting = Waiting(command)
        with self._lock:
            if self._is_busy:
                self._queue.append(waiting)
            else:
                self._is_busy = True
                waiting.batch = [waiting]
        try:
            if not waiting.batch:
                waiting.turn.acquire()
            if waiting.batch:
                self._send(waiting.batch)
        finally:
            self._leave(waiting)
        return _result(waiting.answer)

    def execute_alone(self, *command: Any, **options: Any) -> Any:
        """Send a command by itself and return its answer; the errors are those of `execute`."""
        try:
            return self._client.execute_command(*command, **options)
        except (RedisError, OSError) as error:
            self._drop_stale(error)
            return _result(error)

    def close(self) -> None:
        """Close the client's idle connections."""
        self._client.close()

    def _send(self, batch: list[Waiting]) -> None:
        answers: list[Any]
        try:
            if len(batch) == 1:
                answers = [self._client.execute_command(*batch[0].command)]
            else:
                pipeline = self._client.pipeline(transaction=False)
                for waiting in batch:
                    pipeline.execute_command(*waiting.command)
                answers = pipeline.execute(raise_on_error=False)
        except Exception as error:
            answers = [error] * len(batch)
        except BaseException:
            # A connection with unread answers would give them to the next commands.
            self._drop_stale(RedisConnectionError())
            raise
        for waiting, answer in zip(batch, answers, strict=True):
            waiting.answer = answer
        self._drop_stale(*answers)

    def _leave(self, waiting: Waiting) -> None:
        """Wake those whose commands were sent, and let the next thread send."""
        with self._lock:
            if not waiting.batch:
                with suppress(ValueError):  # it was sent, and is not in the queue
                    self._queue.remove(waiting)
                return
            answered = waiting.batch[1:]
            if _is_timeout(waiting.answer):
                # They have waited as long as Redis may take, and were not sent.
                for other in self._queue:
                    other.answer = waiting.answer
                answered += self._queue
                self._queue = []
            queue, self._queue = self._queue, []
            self._is_busy = bool(queue)
            if queue:
                queue[0].batch = queue
                answered.append(queue[0])
        for other in answered:
            other.turn.release()

    def _drop_stale(self, *answers: Any) -> None:
        is_cluster = isinstance(self._client, CLUSTERS)
        if not is_cluster and any(isinstance(answer, _STALE) for answer in answers):
            with suppress(TypeError):  # before redis-py 6, BlockingConnectionPool cannot
                self._client.connection_pool.disconnect(inuse_connections=False)


class AsyncPipeline:
    """Same as `Pipeline`, for the tasks of one event loop of asyncio.

    The first command is sent by its own task. Those that arrive meanwhile are sent by a
    separate one, so a cancelled request takes no answer from others.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._shares = not isinstance(client, CLUSTERS)
        self._is_busy = False
        self._queue: list[tuple[Command, asyncio.Future[Any]]] = []
        # The event loop does not keep a task alive.
        self._sending: asyncio.Task[None] | None = None

    async def execute(self, *command: Any) -> Any:
        """Same as `Pipeline.execute`, but awaited."""
        if not self._shares:
            return await self.execute_alone(*command)
        answer = asyncio.get_running_loop().create_future()
        self._queue.append((command, answer))
        # A task that is cancelled before it has begun is done, and has sent nothing.
        if not self._is_busy and (self._sending is None or self._sending.done()):
            self._is_busy = True
            await self._send()
        return _result(await answer)

    async def execute_alone(self, *command: Any, **options: Any) -> Any:
        """Same as `Pipeline.execute_alone`, but awaited."""
        try:
            return await self._client.execute_command(*command, **options)
        except (RedisError, OSError) as error:
            await self._drop_stale(error)
            return _result(error)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def _send(self) -> None:
        batch, self._queue = self._queue, []
        answers: list[Any] = [ReplayStoreError(_INTERRUPTED)] * len(batch)
        try:
            if len(batch) == 1:
                answers = [await self._client.execute_command(*batch[0][0])]
            else:
                pipeline = self._client.pipeline(transaction=False)
                for command, _ in batch:
                    pipeline.execute_command(*command)
                answers = await pipeline.execute(raise_on_error=False)
            await self._drop_stale(*answers)
        except Exception as error:
            answers = [error] * len(batch)
            await self._drop_stale(error)
        finally:
            if _is_timeout(answers[0]):  # see `Pipeline._leave`
                batch += self._queue
                answers += answers[:1] * len(self._queue)
                self._queue = []
            for (_, answer), value in zip(batch, answers, strict=True):
                if not answer.done():  # its request was cancelled
                    answer.set_result(value)
            self._queue = [waiting for waiting in self._queue if not waiting[1].done()]
            self._is_busy = False
            self._sending = asyncio.create_task(self._send()) if self._queue else None

    async def _drop_stale(self, *answers: Any) -> None:
        is_cluster = isinstance(self._client, CLUSTERS)
        if not is_cluster and any(isinstance(answer, _STALE) for answer in answers):
            with suppress(RedisError, OSError):  # closing a dead connection may time out
                await self._client.connection_pool.disconnect(inuse_connections=False)


class ThreadPipeline:
    """Commands that are awaited, each in a thread that waits for a `Pipeline`."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def execute(self, *command: Any) -> Any:
        """Same as `Pipeline.execute`, but awaited."""
        return await _in_thread(partial(self._pipeline.execute, *command))

    async def execute_alone(self, *command: Any, **options: Any) -> Any:
        """Same as `Pipeline.execute_alone`, but awaited."""
        return await _in_thread(partial(self._pipeline.execute_alone, *command, **options))

    async def aclose(self) -> None:
        """Close the client."""
        self._pipeline.close()


async def _in_thread(call: Callable[[], Any]) -> Any:
    # A limiter for each call: the application may keep the shared one busy, and the guard
    # limits how many claims are in flight.
    limiter = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=limiter)


def _result(answer: Any) -> Any:
    if isinstance(answer, (RedisError, OSError)):
        # The name alone: Redis may quote the command, and a URL may hold a password.
        raise ReplayStoreError(f"Redis: {type(answer).__name__}") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _is_timeout(answer: Any) -> bool:
    return isinstance(answer, (RedisTimeoutError, TimeoutError))
