"""Validate the redis-py clients that users pass to `RedisReplayStore`. No commands are sent."""

from __future__ import annotations

from typing import Any

from tcaptcha_middleware.errors import ConfigurationError, needs

with needs("redis"):
    from redis import Redis, RedisCluster
    from redis import asyncio as redis_asyncio

CLUSTERS = RedisCluster, redis_asyncio.RedisCluster
_CLASSES: dict[str, tuple[str, tuple[type, ...]]] = {
    "client": ("redis", (Redis, RedisCluster)),
    "async_client": ("redis.asyncio", (redis_asyncio.Redis, redis_asyncio.RedisCluster)),
}


def validate_client(name: str, client: Any) -> None:
    """Validate a client, if there is one.

    Args:
        name: `"client"` or `"async_client"`.
        client: The client, or None.

    Raises:
        ConfigurationError: If it is of another class, waits for ever, or retries commands.
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
            f"{name} waits for ever, so a hung Redis would hang requests: create it with "
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
