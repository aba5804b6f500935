"""Claims of any number of processes and machines, kept in Redis or Valkey.

Needs the extra `redis`: https://redis.io/docs/latest/commands/set/
"""

from __future__ import annotations

from typing import Any

from redis import Redis
from redis import asyncio as redis_asyncio
from redis.exceptions import RedisError

from tcaptcha_middleware.errors import ClaimsError, ConfigurationError


class RedisClaims:
    """Let each ticket be spent once among all who share a Redis: one `SET NX PX` each.

    Args:
        client: A `redis.Redis`, for the WSGI face, or a `redis.asyncio.Redis`, for the ASGI
            face; with timeouts of its own, such as `socket_timeout=0.5`. It stays yours to
            close.
        prefix: What its keys begin with.

    Raises:
        ConfigurationError: The client is neither, or waits for ever.
    """

    def __init__(self, client: Any, prefix: str = "tcaptcha:claim:") -> None:
        if not isinstance(client, (Redis, redis_asyncio.Redis)):
            raise ConfigurationError("client is neither redis.Redis nor redis.asyncio.Redis")
        if client.connection_pool.connection_kwargs.get("socket_timeout") is None:
            raise ConfigurationError(
                "the Redis client waits for ever: make it with socket_timeout=0.5"
            )
        self._client: Any = client
        self._prefix = prefix
        if isinstance(client, Redis):
            self.claim = self._claim
        else:
            self.aclaim = self._aclaim

    def _claim(self, key: str, seconds: float) -> bool:
        """Claim `key`; True for the first who asks within `seconds`.

        Raises:
            ClaimsError: Redis is down, slow or full.
        """
        try:
            return self._client.set(self._prefix + key, 1, nx=True, px=_ms(seconds)) is True
        except (RedisError, OSError) as error:
            raise ClaimsError(f"Redis: {type(error).__name__}") from error

    async def _aclaim(self, key: str, seconds: float) -> bool:
        """Same as `_claim`, but awaited."""
        try:
            done = await self._client.set(self._prefix + key, 1, nx=True, px=_ms(seconds))
        except (RedisError, OSError) as error:
            raise ClaimsError(f"Redis: {type(error).__name__}") from error
        return done is True


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
