"""One contract for all replay stores, sync and async, with a real Redis."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
from adapters import Exchange, through_asgi, through_wsgi
from redis import Redis
from redis_server import RedisServer, redis_server  # noqa: F401  a fixture

from tcaptcha_middleware import ConfigurationError, Guard, MemoryReplayStore, ReplayStoreError
from tcaptcha_middleware.replay.redis import RedisReplayStore
from tcaptcha_middleware.testing import FakeVerifier

HEAD = (("X-Captcha-Ticket", "tr03secretticket"), ("X-Captcha-Randstr", "@r"))
EXCHANGE = Exchange(headers=HEAD)
ADAPTERS = {"asgi": through_asgi, "wsgi": through_wsgi}


STORES = ["memory", "memory of a single process", "redis", "redis by clients"]


@pytest.fixture(params=STORES)
def replay_store(request):
    if request.param.startswith("memory"):
        yield MemoryReplayStore(single_process=request.param == STORES[1])
        MemoryReplayStore(single_process=True).clear()
        return
    server = request.getfixturevalue("redis_server")
    server.command("FLUSHALL")
    if request.param == "redis":
        store = RedisReplayStore(server.url, timeout=5)
    else:
        # Without an asyncio client, the async methods use threads.
        client = Redis.from_url(server.url, socket_timeout=5)
        store = RedisReplayStore(client=client)
    yield store
    store.close()
    if request.param == STORES[3]:
        client.close()


async def in_order(replay_store, *keys):
    claimed = [await replay_store.aclaim(key, "t", 60) for key in keys]
    if hasattr(replay_store, "aclose"):
        await replay_store.aclose()
    return claimed


def test_the_first_claim_wins(replay_store):
    assert [replay_store.claim(key, "t", 60) for key in ("a", "a", "b", "a")] == [
        True,
        False,
        True,
        False,
    ]


def test_sync_and_async_share_one_store(replay_store):
    assert replay_store.claim("a", "t", 60)
    assert asyncio.run(in_order(replay_store, "a", "b", "b")) == [False, True, False]
    assert not replay_store.claim("b", "t", 60)


def test_a_store_may_be_used_in_several_event_loops(replay_store):
    assert asyncio.run(in_order(replay_store, "a")) == [True]
    assert asyncio.run(in_order(replay_store, "a")) == [False]


def test_a_claim_ends(replay_store):
    assert replay_store.claim("a", "t", 0.05)
    deadline = 200
    while not replay_store.claim("a", "t", 60):
        deadline -= 1
        assert deadline
        asyncio.run(asyncio.sleep(0.01))


def test_only_one_of_many_concurrent_claims_succeeds(replay_store):
    with ThreadPoolExecutor(16) as threads:
        claimed = list(threads.map(lambda _: replay_store.claim("a", "t", 60), range(64)))
    assert sum(claimed) == 1


AT_ONCE = 64  # as many as a guard verifies at once


def test_as_many_tasks_may_claim_at_once_as_verifications_run(replay_store):
    async def main():
        claimed = await asyncio.gather(
            *(replay_store.aclaim(str(n), "t", 60) for n in range(AT_ONCE))
        )
        await in_order(replay_store)
        return claimed

    assert all(asyncio.run(main()))


def test_as_many_threads_may_claim_at_once_as_verifications_run(redis_server):  # noqa: F811
    replay_store = RedisReplayStore(redis_server.url, timeout=5)
    redis_server.command("FLUSHALL")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        redis_server.command("CLIENT", "PAUSE", "500")  # milliseconds, so all calls overlap
        claimed = list(
            threads.map(lambda n: replay_store.claim(str(n), "t", 60), range(AT_ONCE))
        )
    replay_store.close()
    assert all(claimed)


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
def test_a_replayed_ticket_is_not_verified_again(replay_store, adapter):
    verifier = FakeVerifier()
    guard = Guard(["POST /login"], verifier, replay_store=replay_store)
    assert [adapter(guard, EXCHANGE).code for _ in range(3)] == [
        "allowed",
        "ticket_reused",
        "ticket_reused",
    ]
    assert len(verifier.tickets) == 1


def test_only_its_own_token_releases_a_claim(replay_store):
    assert replay_store.claim("a", "mine", 60)
    replay_store.release("a", "another")
    assert not replay_store.claim("a", "another", 60)
    replay_store.release("a", "mine")
    assert replay_store.claim("a", "another", 60)


def test_a_release_of_nothing_does_nothing(replay_store):
    replay_store.release("a", "t")
    assert replay_store.claim("a", "t", 60)


def test_releases_are_awaited_too(replay_store):
    async def main():
        claimed = [await replay_store.aclaim("a", "mine", 60)]
        await replay_store.arelease("a", "another")
        claimed.append(await replay_store.aclaim("a", "another", 60))
        await replay_store.arelease("a", "mine")
        return [*claimed, *await in_order(replay_store, "a")]

    assert asyncio.run(main()) == [True, False, True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_claims_are_awaited_on_asyncio_and_on_trio(replay_store, backend):
    assert anyio.run(in_order, replay_store, "a", "a", backend=backend) == [True, False]


def test_redis_never_sees_a_ticket_and_forgets_in_time(redis_server: RedisServer):  # noqa: F811
    redis_server.command("FLUSHALL")
    replay_store = RedisReplayStore(redis_server.url)
    through_wsgi(Guard(["POST /login"], FakeVerifier(), replay_store=replay_store), EXCHANGE)
    (key,) = redis_server.command("KEYS", "*").split()
    replay_store.close()
    assert key.startswith("tcaptcha:claim:")
    assert "secret" not in key
    assert 300 < int(redis_server.command("TTL", key)) <= 330


BROKEN = {
    "fails": ReplayStoreError("down"),
    "fails in its own way": ZeroDivisionError("bug"),
}


class Broken:
    def __init__(self, error):
        self.error = error

    def claim(self, key, token, seconds):
        raise self.error

    async def aclaim(self, key, token, seconds):
        raise self.error

    def release(self, key, token):
        raise NotImplementedError

    async def arelease(self, key, token):
        raise NotImplementedError


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize("error", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    ("policy", "code"), [("verify", "allowed"), ("deny", "verifier_unavailable")]
)
def test_a_store_that_fails_follows_its_own_setting(adapter, error, policy, code, caplog):
    guard = Guard(
        ["POST /login"],
        FakeVerifier(),
        replay_store=Broken(error),
        on_replay_store_error=policy,
        on_unavailable="allow",
    )
    assert adapter(guard, EXCHANGE).code == code
    assert "the replay store failed" in caplog.text


class Garbage:
    def claim(self, key, token, seconds):
        return "OK"

    def release(self, key, token):
        raise NotImplementedError


def test_only_true_is_a_claim():
    guard = Guard(["POST /login"], FakeVerifier(), replay_store=Garbage())
    assert through_wsgi(guard, EXCHANGE).code == "misconfigured"


@pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
@pytest.mark.parametrize("trouble", ["killed", "frozen", "full"])
def test_redis_in_trouble_costs_no_500_and_no_hang(adapter, trouble):
    server = RedisServer()
    try:
        replay_store = RedisReplayStore(server.url, timeout=0.2)
        guard = Guard(
            ["POST /login"],
            FakeVerifier(),
            replay_store=replay_store,
            on_replay_store_error="deny",
        )
        if trouble == "killed":
            server.kill()
        elif trouble == "frozen":
            server.freeze()
        else:
            server.command("CONFIG", "SET", "maxmemory", "1")
        assert adapter(guard, EXCHANGE).code == "verifier_unavailable"
        replay_store.close()
    finally:
        server.kill()


def test_after_a_restart_redis_is_used_again(redis_server: RedisServer):  # noqa: F811
    replay_store = RedisReplayStore(redis_server.url, timeout=5)
    assert replay_store.claim("before", "t", 60)
    redis_server.kill()
    with pytest.raises(ReplayStoreError, match="Redis"):
        replay_store.claim("during", "t", 60)
    redis_server.start()
    assert replay_store.claim("after", "t", 60)
    replay_store.close()


def test_a_store_that_was_never_used_is_closed_without_an_error():
    asyncio.run(RedisReplayStore("redis://127.0.0.1:1/0").aclose())


def test_after_a_restart_no_idle_connection_costs_a_claim(redis_server: RedisServer):  # noqa: F811
    replay_store = RedisReplayStore(redis_server.url, timeout=5)

    async def main():
        async def together(start):
            await asyncio.gather(
                *(replay_store.aclaim(f"{start}{n}", "t", 60) for n in range(8))
            )

        await together("before")
        redis_server.kill()
        redis_server.start()
        await asyncio.sleep(0.1)  # the loop notices the connections that ended
        await together("after")
        await replay_store.aclose()

    asyncio.run(main())


def test_an_invalid_url_is_refused():
    with pytest.raises(ConfigurationError, match="URL"):
        RedisReplayStore("127.0.0.1:6379")


BAD_CLAIMS = {
    "a class": (
        lambda: Guard(["/a"], FakeVerifier(), replay_store=MemoryReplayStore),
        "instance",
    ),
    "a string": (lambda: Guard(["/a"], FakeVerifier(), replay_store="memory"), "neither claim"),
    "None": (lambda: Guard(["/a"], FakeVerifier(), replay_store=None), "neither claim"),
    "no capacity": (lambda: MemoryReplayStore(capacity=0), "whole number"),
    "an invalid policy": (
        lambda: Guard(["/a"], FakeVerifier(), on_replay_store_error="allow"),
        "verify, deny",
    ),
}


@pytest.mark.parametrize(("make", "fix"), BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_invalid_replay_stores_are_refused(make, fix):
    with pytest.raises(ConfigurationError, match=fix):
        make()


def test_a_guard_closes_its_replay_store():
    class Closing(MemoryReplayStore):
        closed = ""

        def close(self):
            self.closed += "s"

        async def aclose(self):
            self.closed += "a"

    replay_store = Closing()
    guard = Guard(["/a"], FakeVerifier(), replay_store=replay_store)
    guard.close()
    asyncio.run(guard.aclose())
    assert json.dumps(replay_store.closed) == '"sa"'
