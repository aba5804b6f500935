"""Replay store for any number of processes and machines, in Redis or Valkey.

Needs the extra `redis`: https://redis.io/docs/latest/commands/set/
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any

import anyio

from tcaptcha_middleware.errors import ConfigurationError, ReplayStoreError, needs
from tcaptcha_middleware.replay.monitor import Evictions
from tcaptcha_middleware.replay.pipeline import (
    CLUSTERS,
    AsyncPipeline,
    Pipeline,
    ThreadPipeline,
)
from tcaptcha_middleware.scoped import PerLoop, PerProcess
from tcaptcha_middleware.validation import validate_timeout

with needs("redis"):
    from redis import Redis, RedisCluster
    from redis import asyncio as redis_asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.connection import AbstractConnection
    from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterable


# redis-py reads its own version from disk for each connection, to send it to the server, which
# blocks the event loop. Older releases need two options.
_HAS_DRIVER_INFO = "driver_info" in signature(AbstractConnection.__init__).parameters
_NAMELESS = (
    {"driver_info": None} if _HAS_DRIVER_INFO else {"lib_name": None, "lib_version": None}
)

_CLASSES: dict[str, tuple[str, tuple[type, ...]]] = {
    "client": ("redis", (Redis, RedisCluster)),
    "async_client": ("redis.asyncio", (redis_asyncio.Redis, redis_asyncio.RedisCluster)),
}

_UNBOUNDED = 2**31 - 1

# https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/
_RELEASE = """\
if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end
return 0"""


class RedisReplayStore:
    """Let each ticket be used once among all processes that share a Redis: one `SET NX PX`.

    Claims that arrive while others are under way are sent together, except to a cluster. It
    never sends a claim twice: after a lost answer, the second would find the first.

    Args:
        url: The address: `"redis://127.0.0.1:6379/0"`, `"rediss://…"` or `"unix://…"`. For
            Redis Cluster, Sentinel or rotating credentials pass clients instead.
        client: A `redis.Redis` or `redis.RedisCluster`, which stays yours to close.
        async_client: The same of `redis.asyncio`, for ASGI on one event loop of asyncio.
            Without it, ASGI uses `client` in threads.
        timeout: How long to wait for the Redis at `url`, in seconds.
        prefix: The prefix of its keys.

    Raises:
        ConfigurationError: If the URL is not valid, `timeout` is not a number above 0, there is
            not either a URL or a client, or a client retries commands or waits without end.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Any = None,
        async_client: Any = None,
        timeout: float = 0.5,
        prefix: str = "tcaptcha:claim:",
    ) -> None:
        validate_timeout(timeout)
        self._url = url
        self._prefix = prefix
        self._evictions = Evictions()
        self._opened: PerLoop[AsyncPipeline | ThreadPipeline] = PerLoop(self._open)
        self._pipeline = PerProcess(lambda: Pipeline(self._client))
        # With RESP3, redis-py no longer notices that a kept connection is dead, so each would
        # cost a claim after a restart. SET needs nothing newer than RESP2.
        self._options: Any = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "protocol": 2,
            # Newer releases of redis-py fail beyond 100, fewer than a guard has verifications
            # in flight, which would look as if Redis were down.
            "max_connections": _UNBOUNDED,
        } | _NAMELESS
        if (url is None) == (client is None and async_client is None):
            raise ConfigurationError(
                'RedisReplayStore needs a URL, such as "redis://127.0.0.1:6379/0", or client= '
                "or async_client=, but not both"
            )
        _validate_client("client", client)
        _validate_client("async_client", async_client)
        is_cluster = isinstance(client or async_client, CLUSTERS)
        self._every_node = {"target_nodes": RedisCluster.PRIMARIES} if is_cluster else {}
        self._async_client: Any = async_client
        self._client: Any = client
        if url is not None:
            if not isinstance(url, str):
                raise ConfigurationError(
                    # Its type alone: it may hold a password.
                    f"the URL is of type {type(url).__name__}: pass "
                    '"redis://127.0.0.1:6379/0", or client= for a redis.Redis'
                )
            try:
                self._client = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **self._options)
            except ValueError:
                # Its own message may quote a part of the password.
                raise ConfigurationError(
                    "the Redis URL is not valid: it must begin with redis://, rediss:// or "
                    "unix://, and its user and password must be percent-encoded"
                ) from None
        elif client is None:
            # The WSGI adapter looks for these methods at construction.
            vars(self).update(claim=None, release=None)

    @property
    def loses_claims(self) -> bool:
        """Whether Redis has just evicted keys, so a claim may have been deleted."""
        return self._evictions.lost_claims(time.monotonic())

    def claim(self, key: str, token: str, seconds: float) -> bool:
        """Claim `key` for `seconds`; True for the first caller.

        Raises:
            ReplayStoreError: If Redis is down, slow or full.
        """
        pipeline = self._pipeline.get()
        milliseconds = math.ceil(seconds * 1000)
        answer = pipeline.execute("SET", self._prefix + key, token, "NX", "PX", milliseconds)
        now = time.monotonic()
        if self._evictions.is_due(now):
            with suppress(ReplayStoreError):  # users may lack the right to call INFO
                answers = pipeline.execute_alone("INFO", **self._every_node)
                self._evictions.note(_by_node(answers), now, seconds)
        return answer is True

    def release(self, key: str, token: str) -> None:
        """Delete the claim of `key` if it was made with `token`.

        Raises:
            ReplayStoreError: If Redis is down or slow.
        """
        self._pipeline.get().execute("EVAL", _RELEASE, 1, self._prefix + key, token)

    async def aclaim(self, key: str, token: str, seconds: float) -> bool:
        """Same as `claim`, but awaited."""
        pipeline, name = self._opened.get(), self._prefix + key
        milliseconds = math.ceil(seconds * 1000)
        answer = await pipeline.execute("SET", name, token, "NX", "PX", milliseconds)
        now = time.monotonic()
        if self._evictions.is_due(now):
            with suppress(ReplayStoreError):
                answers = await pipeline.execute_alone("INFO", **self._every_node)
                self._evictions.note(_by_node(answers), now, seconds)
        return answer is True

    async def arelease(self, key: str, token: str) -> None:
        """Same as `release`, but awaited."""
        await self._opened.get().execute("EVAL", _RELEASE, 1, self._prefix + key, token)

    def close(self) -> None:
        """Close the connections of `claim`, unless the client is yours; they open again."""
        if self._url is not None:
            self._client.close()

    async def aclose(self) -> None:
        """Close the connections that `aclaim` opened in the running event loop."""
        opened = self._opened.take()
        if opened is not None and self._url is not None:
            await opened.aclose()

    def _open(self) -> AsyncPipeline | ThreadPipeline:
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            if self._async_client is not None:
                return AsyncPipeline(self._async_client)
            if self._url is not None:
                retry = AsyncRetry(NoBackoff(), 0)
                return AsyncPipeline(
                    redis_asyncio.Redis.from_url(self._url, retry=retry, **self._options)
                )
        elif self._client is None:
            raise ReplayStoreError(
                "redis-py's asyncio client does not run on trio: pass client= too"
            )
        return ThreadPipeline(self._pipeline.get())


def _by_node(answer: Any) -> Iterable[Any]:
    # A single server, or a cluster of one node, returns its own answer only.
    return [answer] if "run_id" in answer else answer.values()


def _validate_client(name: str, client: Any) -> None:
    """Validate a client, if there is one.

    Args:
        name: `"client"` or `"async_client"`.
        client: The client, or None.

    Raises:
        ConfigurationError: If it is of another class, waits without end, or retries commands.
    """
    if client is None:
        return
    module, classes = _CLASSES[name]
    kind = type(client)
    if not issubclass(kind, classes):
        raise ConfigurationError(
            f"{name} is of type {kind.__module__}.{kind.__qualname__}: it must be "
            f"a Redis or a RedisCluster of {module}"
        )
    options = client.get_connection_kwargs()
    if not options.get("socket_timeout"):
        raise ConfigurationError(
            f"{name} waits without end, so a hung Redis would hang requests: create it with "
            "socket_timeout=0.5"
        )
    attempts = getattr(client, "cluster_error_retry_attempts", 0)  # before redis-py 6
    retry = client.retry if isinstance(client, CLUSTERS) else options.get("retry")
    if retry is not None:
        attempts = max(attempts, abs(retry._retries))  # noqa: SLF001  get_retries() came with 6
    elif options.get("retry_on_error") or options.get("retry_on_timeout"):
        attempts = 1
    if attempts:
        # A claim whose answer was lost would find itself, and a good ticket would be refused.
        raise ConfigurationError(
            f"{name} sends a command up to {attempts} times more if its answer is lost: create "
            "it with retry=Retry(NoBackoff(), 0), of redis.backoff and redis.retry or "
            "redis.asyncio.retry (with redis-py 5 a RedisCluster also needs "
            "cluster_error_retry_attempts=0)"
        )
