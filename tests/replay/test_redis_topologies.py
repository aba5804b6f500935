"""The Redis store over Redis Cluster and Redis Sentinel, through their failovers."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import anyio
import pytest
from redis import RedisCluster, Sentinel
from redis import asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from redis_topologies import redis_cluster, redis_sentinel, wait_until

from tcaptcha_middleware import ReplayStoreError
from tcaptcha_middleware.replay import monitor
from tcaptcha_middleware.replay.redis import RedisReplayStore

pytestmark = pytest.mark.outside
TIMEOUT = 0.5
KEYS = [f"key {n}" for n in range(60)]  # in slots of every node


@pytest.fixture(scope="module")
def cluster():
    with redis_cluster() as nodes:
        yield nodes


@pytest.fixture
def store(cluster):
    """A store whose sync client is a cluster client."""
    client = RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", node.port) for node in cluster],
        socket_timeout=TIMEOUT,
        retry=Retry(NoBackoff(), 0),
    )
    client.flushall(target_nodes=RedisCluster.PRIMARIES)
    yield RedisReplayStore(client=client)
    client.close()


def asyncio_cluster(node):
    return redis_asyncio.RedisCluster(
        "127.0.0.1", node.port, socket_timeout=TIMEOUT, retry=AsyncRetry(NoBackoff(), 0)
    )


def claimed(store, key):
    """Claim `key`; None if the store fails."""
    with suppress(ReplayStoreError):
        return store.claim(key, "mine", 60)


def test_every_node_of_a_cluster_keeps_claims_and_releases_them(store):
    assert all(store.claim(key, "mine", 60) for key in KEYS)
    for key in KEYS:
        store.release(key, "another")
    assert not any(store.claim(key, "mine", 60) for key in KEYS)
    for key in KEYS:
        store.release(key, "mine")
    assert all(store.claim(key, "mine", 60) for key in KEYS)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_claims_in_a_cluster_are_awaited(store, cluster, backend):
    async def main():
        async with asyncio_cluster(cluster[1]) as client:
            awaited = RedisReplayStore(client=store._client, async_client=client)
            first = [await awaited.aclaim(key, "mine", 60) for key in KEYS]
            for key in KEYS:
                await awaited.arelease(key, "another")
            return first, [await awaited.aclaim(key, "mine", 60) for key in KEYS]

    if backend == "trio":

        async def main():
            return [await store.aclaim(key, "mine", 60) for key in KEYS], []

    first, second = anyio.run(main, backend=backend)
    assert all(first)
    assert not any(second)


def test_one_node_of_a_cluster_that_evicts_is_noticed(store, cluster, monkeypatch):
    monkeypatch.setattr(monitor, "LOOK_EVERY", 0)
    assert all(store.claim(key, "mine", 60) for key in KEYS)
    assert not store.loses_claims
    last = cluster[2]
    last.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    last.command("CONFIG", "SET", "maxmemory", "1")  # evicts at once
    last.command("CONFIG", "SET", "maxmemory", "0")
    store.claim("after", "mine", 60)
    assert store.loses_claims


def test_a_cluster_that_promotes_a_replica_keeps_its_claims(store, cluster):
    assert all(store.claim(key, "mine", 60) for key in KEYS)
    cluster[0].command("WAIT", "1", "1000")
    cluster[0].kill()
    wait_until(lambda: "role:master" in cluster[3].command("INFO", "replication"))
    wait_until(lambda: claimed(store, KEYS[0]) is not None)
    wait_until(lambda: None not in {claimed(store, key) for key in KEYS})
    assert not any(claimed(store, key) for key in KEYS)
    assert all(store.claim(f"new {key}", "mine", 60) for key in KEYS)


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory):
    with redis_sentinel(tmp_path_factory.mktemp("sentinel")) as servers:
        yield servers


def test_claims_survive_a_failover_of_sentinel(sentinel):
    master, replica, watcher = sentinel
    client = Sentinel([("127.0.0.1", watcher.port)], socket_timeout=TIMEOUT).master_for(
        "gate", socket_timeout=TIMEOUT
    )
    store = RedisReplayStore(client=client)

    async def awaited(*keys):
        sentinels = redis_asyncio.Sentinel(
            [("127.0.0.1", watcher.port)], socket_timeout=TIMEOUT
        )
        async with sentinels.master_for("gate", socket_timeout=TIMEOUT) as async_client:
            other = RedisReplayStore(async_client=async_client)
            answers = [await other.aclaim(key, "mine", 60) for key in keys]
        for client in sentinels.sentinels:
            await client.aclose()
        return answers

    assert store.claim("before", "mine", 60)
    assert asyncio.run(awaited("awaited before", "before")) == [True, False]
    wait_until(lambda: "2" in replica.command("DBSIZE"))
    master.kill()
    wait_until(lambda: claimed(store, "during") is not None)
    assert "role:master" in replica.command("INFO", "replication")
    assert not store.claim("before", "mine", 60)
    assert store.claim("after", "mine", 60)
    assert asyncio.run(awaited("awaited before", "awaited after")) == [False, True]
    client.close()
