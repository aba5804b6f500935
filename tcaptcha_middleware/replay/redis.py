"""Claims of any number of processes and machines, kept in Redis or Valkey.

Needs the extra `redis`: https://redis.io/docs/latest/commands/set/
"""

from __future__ import annotations

from contextlib import contextmanager
from inspect import signature
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import ConfigurationError, ReplayStoreError
from tcaptcha_middleware.extras import needs
from tcaptcha_middleware.scoped import PerLoop
from tcaptcha_middleware.validation import check_timeout

with needs("redis"):
    from redis import Redis
    from redis import asyncio as redis_asyncio
    from redis.asyncio.retry import Retry as AsyncRetry
    from redis.backoff import NoBackoff
    from redis.connection import AbstractConnection
    from redis.exceptions import RedisError
    from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Iterator


# To tell the server who it is, redis-py looks up its own version on the disk, for each
# connection, which blocks the event loop. Older releases have no word for both together.
_ONE_WORD = "driver_info" in signature(AbstractConnection.__init__).parameters
_NAMELESS = {"driver_info": None} if _ONE_WORD else {"lib_name": None, "lib_version": None}

_UNBOUNDED = 2**31 - 1


class RedisReplayStore:
    """Let each ticket be spent once among all who share a Redis: one `SET NX PX` each.

    Never asks twice: after a lost answer nobody can tell whose the claim is.

    Args:
        url: Where it is: `"redis://127.0.0.1:6379/0"`, `"rediss://…"` or `"unix://…"`.
        timeout: How long to wait for it, in seconds.
        prefix: What its keys begin with.

    Raises:
        ConfigurationError: The URL is none, or the timeout no number above 0.
    """

    def __init__(
        self, url: str, *, timeout: float = 0.5, prefix: str = "tcaptcha:claim:"
    ) -> None:
        if not isinstance(url, str):
            raise ConfigurationError(
                # By its kind alone: it may hold a password.
                f"the URL is of type {type(url).__name__}: "
                'write RedisReplayStore("redis://127.0.0.1:6379/0")'
            )
        check_timeout(timeout)
        self._url = url
        # With RESP3, redis-py no longer looks whether a kept connection is dead, so that each
        # would cost a claim after a restart. SET needs nothing newer than RESP2.
        self._limits: Any = {
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "protocol": 2,
            # Newer releases of redis-py fail beyond 100, fewer than a guard has checks under
            # way, so that many visitors would look as if Redis were down.
            "max_connections": _UNBOUNDED,
        } | _NAMELESS
        self._prefix = prefix
        try:
            self._client: Any = Redis.from_url(url, retry=Retry(NoBackoff(), 0), **self._limits)
        except ValueError as error:
            raise ConfigurationError(f"the Redis URL cannot work: {error}") from error
        self._opened: PerLoop[Any] = PerLoop(self._open)

    def claim(self, key: str, seconds: float) -> bool:
        """Claim `key`; True for the first who asks within `seconds`.

        Raises:
            ReplayStoreError: Redis is down, slow or full.
        """
        with _translated():
            done = self._client.set(self._prefix + key, 1, nx=True, px=_ms(seconds))
        return done is True

    async def aclaim(self, key: str, seconds: float) -> bool:
        """Same as `claim`, but awaited."""
        with _translated():
            done = await self._opened.get().set(self._prefix + key, 1, nx=True, px=_ms(seconds))
        return done is True

    def close(self) -> None:
        """Close the connections of `claim`; it opens them again when it is used again."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections that `aclaim` has opened in the running event loop."""
        opened = self._opened.take()
        if opened is not None:
            await opened.aclose()

    def _open(self) -> Any:
        retry = AsyncRetry(NoBackoff(), 0)
        return redis_asyncio.Redis.from_url(self._url, retry=retry, **self._limits)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        # The name alone: Redis may quote the command, and a URL may hold a password.
        raise ReplayStoreError(f"Redis: {type(error).__name__}") from error
