"""One contract for every claims store, in both colours; Redis is a real one."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from faces import Exchange, through_asgi, through_wsgi
from redis_server import RedisServer, redis_server  # noqa: F401  a fixture

from tcaptcha_middleware import ClaimsError, ConfigurationError, Guard, MemoryClaims
from tcaptcha_middleware.claims.keys import claim_key
from tcaptcha_middleware.claims.redis import RedisClaims
from tcaptcha_middleware.models import Ticket
from tcaptcha_middleware.testing import FakeVerifier

HEAD = (("X-Captcha-Ticket", "tr03secretticket"), ("X-Captcha-Randstr", "@r"))
EXCHANGE = Exchange(headers=HEAD)
FACES = {"asgi": through_asgi, "wsgi": through_wsgi}


@pytest.fixture(params=["memory", "redis"])
def claims(request):
    if request.param == "memory":
        yield MemoryClaims()
        return
    store = RedisClaims(request.getfixturevalue("redis_server").url, timeout=5)
    store._client.flushdb()
    yield store
    store.close()


async def in_order(claims, *keys):
    found = [await claims.aclaim(key, 60) for key in keys]
    if hasattr(claims, "aclose"):
        await claims.aclose()
    return found


def test_the_first_who_claims_gets_it(claims):
    assert [claims.claim(key, 60) for key in ("a", "a", "b", "a")] == [True, False, True, False]


def test_both_colours_share_one_store(claims):
    assert claims.claim("a", 60)
    assert asyncio.run(in_order(claims, "a", "b", "b")) == [False, True, False]
    assert not claims.claim("b", 60)


def test_an_event_loop_of_its_own_for_each_run_is_fine(claims):
    assert asyncio.run(in_order(claims, "a")) == [True]
    assert asyncio.run(in_order(claims, "a")) == [False]


def test_a_claim_ends(claims):
    assert claims.claim("a", 0.05)
    deadline = 200
    while not claims.claim("a", 60):
        deadline -= 1
        assert deadline
        asyncio.run(asyncio.sleep(0.01))


def test_of_many_at_once_one_gets_it(claims):
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: claims.claim("a", 60), range(64)))
    assert sum(found) == 1


AT_ONCE = 256  # as many as a guard has checks under way


def test_whoever_is_checked_at_once_may_claim_at_once(claims):
    async def main():
        found = await asyncio.gather(*(claims.aclaim(str(n), 60) for n in range(AT_ONCE)))
        await in_order(claims)
        return found

    assert all(asyncio.run(main()))


def test_whoever_is_checked_in_threads_may_claim_at_once(redis_server):  # noqa: F811
    claims = RedisClaims(redis_server.url, timeout=5)
    redis_server.command("FLUSHALL")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        redis_server.command("CLIENT", "PAUSE", "500")  # milliseconds, for all to meet there
        found = list(threads.map(lambda n: claims.claim(str(n), 60), range(AT_ONCE)))
    claims.close()
    assert all(found)


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_a_ticket_is_checked_once(claims, face):
    verifier = FakeVerifier()
    guard = Guard(["POST /login"], verifier, claims=claims)
    assert [face(guard, EXCHANGE).code for _ in range(3)] == [
        "allowed",
        "ticket_reused",
        "ticket_reused",
    ]
    assert len(verifier.tickets) == 1


def test_memory_is_bounded():
    claims = MemoryClaims(capacity=10)
    assert all(claims.claim(str(n), 60) for n in range(1000))
    assert len(claims._until) == 10
    assert not claims.claim("999", 60)


def test_claims_that_have_ended_are_forgotten():
    now = [0.0]
    claims = MemoryClaims(clock=lambda: now[0])
    for n in range(100):
        claims.claim(str(n), 60)
    now[0] = 61
    assert claims.claim("0", 60)
    assert len(claims._until) == 1


def test_the_key_is_a_hash_of_both_halves():
    def key(ticket, randstr):
        return claim_key(Ticket(ticket, randstr, "203.0.113.7"))

    assert len({key("a", "b"), key("a", "c"), key("c", "b"), key("ab", "")}) == 4
    assert "tr03secretticket" not in key("tr03secretticket", "@r")


def test_redis_never_sees_a_ticket_and_forgets_in_time(redis_server: RedisServer):  # noqa: F811
    redis_server.command("FLUSHALL")
    claims = RedisClaims(redis_server.url)
    through_wsgi(Guard(["POST /login"], FakeVerifier(), claims=claims), EXCHANGE)
    (key,) = redis_server.command("KEYS", "*").split()
    claims.close()
    assert key.startswith("tcaptcha:claim:")
    assert "secret" not in key
    assert 300 < int(redis_server.command("TTL", key)) <= 330


BROKEN = {
    "fails": ClaimsError("down"),
    "fails in its own way": ZeroDivisionError("bug"),
}


class Broken:
    def __init__(self, error):
        self.error = error

    def claim(self, key, seconds):
        raise self.error

    async def aclaim(self, key, seconds):
        raise self.error


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
@pytest.mark.parametrize("error", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize(
    ("policy", "code"), [("verify", "allowed"), ("deny", "verifier_unavailable")]
)
def test_a_store_that_fails_follows_its_own_setting(face, error, policy, code, caplog):
    guard = Guard(
        ["POST /login"],
        FakeVerifier(),
        claims=Broken(error),
        on_claims_down=policy,
        on_unavailable="allow",
    )
    assert face(guard, EXCHANGE).code == code
    assert "the claims store failed" in caplog.text


class Garbage:
    def claim(self, key, seconds):
        return "OK"


def test_only_true_is_a_claim():
    guard = Guard(["POST /login"], FakeVerifier(), claims=Garbage())
    assert through_wsgi(guard, EXCHANGE).code == "ticket_reused"


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
@pytest.mark.parametrize("trouble", ["killed", "frozen", "full"])
def test_redis_in_trouble_costs_no_500_and_no_hang(face, trouble):
    server = RedisServer()
    try:
        claims = RedisClaims(server.url, timeout=0.2)
        guard = Guard(["POST /login"], FakeVerifier(), claims=claims, on_claims_down="deny")
        if trouble == "killed":
            server.kill()
        elif trouble == "frozen":
            server.freeze()
        else:
            server.command("CONFIG", "SET", "maxmemory", "1")
        assert face(guard, EXCHANGE).code == "verifier_unavailable"
        claims.close()
    finally:
        server.kill()


def test_after_a_restart_redis_is_used_again(redis_server: RedisServer):  # noqa: F811
    claims = RedisClaims(redis_server.url, timeout=5)
    assert claims.claim("before", 60)
    redis_server.kill()
    with pytest.raises(ClaimsError, match="Redis"):
        claims.claim("during", 60)
    redis_server.start()
    assert claims.claim("after", 60)
    claims.close()


def test_what_was_never_opened_is_closed_quietly():
    asyncio.run(RedisClaims("redis://127.0.0.1:1/0").aclose())


def test_after_a_restart_no_kept_connection_costs_a_claim(redis_server: RedisServer):  # noqa: F811
    claims = RedisClaims(redis_server.url, timeout=5)

    async def main():
        async def together(start):
            await asyncio.gather(*(claims.aclaim(f"{start}{n}", 60) for n in range(8)))

        await together("before")
        redis_server.kill()
        redis_server.start()
        await asyncio.sleep(0.1)  # the loop hears of the connections that ended
        await together("after")
        await claims.aclose()

    asyncio.run(main())


def test_a_url_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="URL"):
        RedisClaims("127.0.0.1:6379")


BAD_CLAIMS = {
    "a class": (lambda: Guard(["/a"], FakeVerifier(), claims=MemoryClaims), "instance"),
    "a text": (lambda: Guard(["/a"], FakeVerifier(), claims="memory"), "neither claim"),
    "None": (lambda: Guard(["/a"], FakeVerifier(), claims=None), "neither claim"),
    "no capacity": (lambda: MemoryClaims(capacity=0), "whole number"),
    "a policy that is none": (
        lambda: Guard(["/a"], FakeVerifier(), on_claims_down="allow"),
        "verify, deny",
    ),
}


@pytest.mark.parametrize(("make", "mend"), BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_claims_that_cannot_work_are_refused(make, mend):
    with pytest.raises(ConfigurationError, match=mend):
        make()


def test_a_guard_closes_its_claims():
    class Closing(MemoryClaims):
        closed = ""

        def close(self):
            self.closed += "s"

        async def aclose(self):
            self.closed += "a"

    claims = Closing()
    guard = Guard(["/a"], FakeVerifier(), claims=claims)
    guard.close()
    asyncio.run(guard.aclose())
    assert json.dumps(claims.closed) == '"sa"'
