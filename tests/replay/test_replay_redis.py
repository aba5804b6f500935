"""What the Redis store sends, and what it does if Redis fails or a client cannot be used.

Redis Cluster and Sentinel are in `test_redis_topologies`.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from adapters import Exchange, through_asgi, through_wsgi
from redis import BlockingConnectionPool, CredentialProvider, Redis, RedisCluster
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_server import RedisServer, redis_server  # noqa: F401  a fixture
from scripted_redis import forwarder, scripted_redis

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    ReplayStoreError,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
)
from tcaptcha_middleware.replay import monitor
from tcaptcha_middleware.replay.redis import _NAMELESS, RedisReplayStore
from tcaptcha_middleware.testing import FakeVerifier

EXCHANGE = Exchange(
    headers=(("X-Captcha-Ticket", "tr03secretticket"), ("X-Captcha-Randstr", "@r"))
)
ADAPTERS = {"asgi": through_asgi, "wsgi": through_wsgi}
both_adapters = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
TIMEOUT = 0.1


def claim(store, key="a"):
    return store.claim(key, "t", 60)


def aclaim(store, key="a"):
    async def main():
        try:
            return await store.aclaim(key, "t", 60)
        finally:
            await store.aclose()

    return anyio.run(main)


def aclaim_on_trio(store, key="a"):
    async def main():
        try:
            return await store.aclaim(key, "t", 60)
        finally:
            await store.aclose()

    return anyio.run(main, backend="trio")


CALLS = {"sync": claim, "asyncio": aclaim, "trio": aclaim_on_trio}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


# -- A claim on the wire ------


@both_adapters
@pytest.mark.parametrize(
    "reply",
    [None, b"-ERR hunter2 tr03secretticket\r\n", b"?\r\n"],
    ids=["lost", "error", "odd"],
)
def test_a_claim_is_one_set_with_an_expiry_and_the_reply_is_not_logged(adapter, reply, caplog):
    with scripted_redis(reply) as server:
        url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
        store = RedisReplayStore(url, timeout=TIMEOUT)
        guard = Guard(["POST /login"], FakeVerifier(), replay_store=store)
        began = time.monotonic()
        assert adapter(guard, EXCHANGE).code == "allowed"  # on_replay_store_error="verify"
        assert time.monotonic() - began < 5 * TIMEOUT
        store.close()
    assert server.received.count(b"SET") == server.received.count(b"\r\nNX\r\n") == 1
    assert server.received.count(b"\r\nPX\r\n$6\r\n330000\r\n") == 1
    assert "the replay store failed (Redis: " in caplog.text
    assert all(secret not in caplog.text for secret in ("hunter2", "secretticket", "127.0.0.1"))


@both_adapters
def test_a_redis_that_hangs_costs_three_requests_its_timeout(adapter, caplog):
    with scripted_redis(None) as server:
        store = RedisReplayStore(f"redis://127.0.0.1:{server.port}", timeout=TIMEOUT)
        guard = Guard(["POST /login"], FakeVerifier(), replay_store=store)
        codes = []
        for number in range(20):
            pair = (("X-Captcha-Ticket", f"tr03{number}"), ("X-Captcha-Randstr", "@r"))
            codes.append(adapter(guard, Exchange(headers=pair)).code)
        store.close()
    assert codes == ["allowed"] * 20
    assert server.received.count(b"SET") == 3
    skipped = [line for line in caplog.messages if "skipping it" in line]
    assert len(skipped) == 1


@each_call
def test_a_lost_answer_is_waited_for_no_longer_than_the_timeout(call):
    with scripted_redis(None) as server:
        store = RedisReplayStore(f"redis://127.0.0.1:{server.port}", timeout=TIMEOUT)
        began = time.monotonic()
        with pytest.raises(ReplayStoreError, match=r"^Redis: TimeoutError$") as caught:
            call(store)
        assert TIMEOUT * 0.9 < time.monotonic() - began < 5 * TIMEOUT
        store.close()
        while b"SET" not in server.received:  # a busy machine may read it later
            assert time.monotonic() - began < 10
            time.sleep(0.01)
    assert caught.value.__suppress_context__
    assert server.received.count(b"SET") == 1


def test_an_expiry_is_at_least_a_millisecond(redis_server: RedisServer):  # noqa: F811
    store = RedisReplayStore(redis_server.url, timeout=5)
    assert store.claim("short", "t", 0.0001)
    store.close()


def test_the_token_is_the_value(redis_server: RedisServer):  # noqa: F811
    store = RedisReplayStore(redis_server.url, timeout=5)
    assert store.claim("with a token", "4711", 60)
    store.close()
    assert redis_server.command("GET", "tcaptcha:claim:with a token") == "4711"


# -- Failover, rotation, eviction ------


@pytest.fixture(scope="module")
def other_server():
    server = RedisServer()
    yield server
    server.kill()


def together(store, keys):
    with ThreadPoolExecutor(len(keys)) as threads:
        return list(threads.map(lambda key: claim(store, key), keys))


@pytest.fixture
def master(redis_server):  # noqa: F811
    yield redis_server
    redis_server.command("REPLICAOF", "NO", "ONE")


def demote(server, other, target):
    server.command("REPLICAOF", "127.0.0.1", str(other.port))
    target[0] = other.port


def test_after_a_failover_behind_one_address_one_claim_fails(master, other_server):
    with forwarder(master.port) as (port, target):
        store = RedisReplayStore(f"redis://127.0.0.1:{port}", timeout=5)
        master.command("CLIENT", "PAUSE", "200")  # milliseconds, so each opens its own
        assert together(store, [f"kept {n}" for n in range(8)]) == [True] * 8
        demote(master, other_server, target)
        with pytest.raises(ReplayStoreError, match="ReadOnlyError"):
            claim(store, "during")
        assert together(store, [f"after {n}" for n in range(8)]) == [True] * 8
        store.close()


def test_after_a_failover_one_awaited_claim_fails(master, other_server):
    async def main():
        with forwarder(master.port) as (port, target):
            store = RedisReplayStore(f"redis://127.0.0.1:{port}", timeout=5)

            async def many(when):
                keys = [f"{when} awaited {n}" for n in range(8)]
                return await asyncio.gather(*(store.aclaim(key, "t", 60) for key in keys))

            assert all(await many("kept"))
            await asyncio.to_thread(demote, master, other_server, target)
            with pytest.raises(ReplayStoreError, match="ReadOnlyError"):
                await store.aclaim("awaited during", "t", 60)
            assert all(await many("after"))
            await store.aclose()

    asyncio.run(main())


def test_a_pool_that_blocks_is_emptied_too(master):
    pool = BlockingConnectionPool.from_url(master.url, socket_timeout=5)
    store = RedisReplayStore(client=Redis(connection_pool=pool))
    assert claim(store, "of a pool that blocks")
    master.command("REPLICAOF", "127.0.0.1", "1")
    with pytest.raises(ReplayStoreError, match="ReadOnlyError"):
        claim(store, "later")
    master.command("REPLICAOF", "NO", "ONE")
    assert claim(store, "later")
    pool.disconnect()


class Rotating(CredentialProvider):
    password = "one"

    def get_credentials(self):
        return "gate", self.password


RIGHTS = ("on", "~tcaptcha:*", "+set", "+eval", "+get", "+del")


def test_rotated_credentials_are_used_for_the_next_connection(redis_server):  # noqa: F811
    redis_server.command("ACL", "SETUSER", "gate", ">one", *RIGHTS)
    provider = Rotating()
    client = Redis(
        port=redis_server.port,
        credential_provider=provider,
        socket_timeout=5,
        retry=Retry(NoBackoff(), 0),
    )
    store = RedisReplayStore(client=client)
    assert claim(store, "before the rotation")  # without the permission to call INFO
    redis_server.command("ACL", "SETUSER", "gate", "resetpass", ">two")
    redis_server.command("CLIENT", "KILL", "USER", "gate")
    with pytest.raises(ReplayStoreError, match="AuthenticationError"):
        claim(store, "with the old password")
    provider.password = "two"
    assert claim(store, "with the new password")
    store.release("with the new password", "t")
    client.close()
    redis_server.command("ACL", "DELUSER", "gate")


@each_call
def test_an_evicting_redis_is_noticed_and_logged_once(call, monkeypatch, caplog):
    monkeypatch.setattr(monitor, "LOOK_EVERY", 0)
    server = RedisServer("--maxmemory", "6mb", "--maxmemory-policy", "allkeys-lru")
    try:
        store = RedisReplayStore(server.url, timeout=5)
        assert call(store, "a")
        assert not store.loses_claims
        for n in range(2):
            with Redis(port=server.port) as filling:
                for i in range(100):
                    filling.mset({f"filler{n}.{i}.{j}": b"x" * 1000 for j in range(100)})
            assert call(store, str(n))
            assert store.loses_claims
        store.close()
    finally:
        server.kill()
    assert caplog.text.count("Redis evicts keys") == 1


# -- Clients that the user passes ------


def test_an_asyncio_client_serves_asgi_only(redis_server):  # noqa: F811
    options = {"socket_timeout": 5} | _NAMELESS  # redis-py would read its version from disk

    async def main():
        async with redis_asyncio.Redis.from_url(redis_server.url, **options) as client:
            store = RedisReplayStore(async_client=client)
            answers = [await store.aclaim("of an asyncio client", "t", 60) for _ in range(2)]
            await store.arelease("of an asyncio client", "t")
            store.close()
            await store.aclose()
            # The user closes the client.
            assert [*answers, await client.exists("tcaptcha:claim:of an asyncio client")] == [
                True,
                False,
                0,
            ]
            return store

    guard = Guard(["/a"], FakeVerifier(), replay_store=asyncio.run(main()))
    TCaptchaMiddleware(print, guard)
    with pytest.raises(ConfigurationError, match="RedisReplayStore has no claim"):
        TCaptchaWSGIMiddleware(print, guard)


def test_with_both_clients_trio_uses_the_sync_one(redis_server):  # noqa: F811
    client = Redis.from_url(redis_server.url, socket_timeout=5)
    never = redis_asyncio.Redis.from_url("redis://127.0.0.1:1", socket_timeout=5)
    store = RedisReplayStore(client=client, async_client=never)
    assert aclaim_on_trio(store, "on trio")
    assert not claim(store, "on trio")
    client.close()
    with pytest.raises(ReplayStoreError, match="trio"):
        aclaim_on_trio(RedisReplayStore(async_client=never))


def test_on_trio_a_hung_redis_is_abandoned_with_its_thread():
    async def main():
        with anyio.move_on_after(TIMEOUT) as scope:
            await store.aclaim("a", "t", 60)
        return scope.cancelled_caught

    with scripted_redis(None) as server:
        store = RedisReplayStore(f"redis://127.0.0.1:{server.port}", timeout=5 * TIMEOUT)
        began = time.monotonic()
        assert anyio.run(main, backend="trio")
        assert time.monotonic() - began < 3 * TIMEOUT
        store.close()


class OfRedis5(Redis):
    """Like a cluster client of redis-py 5, which counts its attempts itself."""

    cluster_error_retry_attempts = 3


ONCE, ASYNC_ONCE = Retry(NoBackoff(), 0), AsyncRetry(NoBackoff(), 0)
BAD = {
    "nothing": (dict, "needs a URL"),
    "a URL and a client": (
        lambda: {"url": "redis://h", "client": Redis(socket_timeout=1, retry=ONCE)},
        "not both",
    ),
    "an asyncio client as the sync one": (
        lambda: {"client": redis_asyncio.Redis()},
        "client is of type redis.asyncio.client.Redis: .* of redis$",
    ),
    "a sync client as the asyncio one": (
        lambda: {"async_client": Redis()},
        "async_client is of type redis.client.Redis: .* of redis.asyncio$",
    ),
    "a client without a timeout": (
        lambda: {"client": Redis(socket_timeout=None, retry=ONCE)},
        "client waits without end",
    ),
    "a client that retries": (
        lambda: {"client": Redis(socket_timeout=1, retry=Retry(NoBackoff(), 3))},
        "up to 3 times more .* retry=Retry",
    ),
    "a client with endless retries": (
        lambda: {"client": Redis(socket_timeout=1, retry=Retry(NoBackoff(), -1))},
        "retry=Retry",
    ),
    "an asyncio client that retries": (
        lambda: {
            "async_client": redis_asyncio.Redis(
                socket_timeout=1, retry=AsyncRetry(NoBackoff(), 2)
            )
        },
        "async_client sends a command up to 2 times more",
    ),
    "a client that retries by its errors": (
        lambda: {
            "client": Redis.from_url(
                "redis://h", socket_timeout=1, retry_on_error=[ConnectionError]
            )
        },
        "up to 1 times more",
    ),
    "a client that counts its attempts": (
        lambda: {"client": OfRedis5(socket_timeout=1, retry=ONCE)},
        "up to 3 times more",
    ),
    "an asyncio cluster that retries": (
        lambda: {"async_client": redis_asyncio.RedisCluster("127.0.0.1", socket_timeout=1)},
        "up to [0-9]+ times more",
    ),
    "a URL whose port is a part of the password": (
        lambda: {"url": "redis://:xq/zz2@127.0.0.1:1"},
        "percent-encoded$",
    ),
}


@pytest.mark.parametrize(("make", "fix"), BAD.values(), ids=BAD)
def test_clients_that_cannot_be_used_are_refused(make, fix):
    with pytest.raises(ConfigurationError, match=fix) as caught:
        RedisReplayStore(**make())
    assert "xq" not in str(caught.value)


def test_clients_that_send_each_command_once_are_accepted():
    cluster = redis_asyncio.RedisCluster("127.0.0.1", socket_timeout=1, retry=ASYNC_ONCE)
    RedisReplayStore(client=Redis(socket_timeout=1, retry=ONCE), async_client=cluster)
    assert RedisCluster.PRIMARIES == redis_asyncio.RedisCluster.PRIMARIES
