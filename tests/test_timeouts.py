"""Every wait of the ASGI adapter has a deadline, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future as ThreadFuture

import anyio
import anyio.lowlevel
import pytest
import trio
from adapters import Exchange, scope_of

from tcaptcha_middleware import Guard, Rule, TCaptchaMiddleware, Verdict, get_decision
from tcaptcha_middleware.asgi import within
from tcaptcha_middleware.testing import FakeVerifier

PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Forever:
    """A verifier and a store that never answer, and count how often they were cancelled."""

    def __init__(self):
        self.asked = self.let_off = 0

    async def averify(self, ticket):
        return await self._wait()

    async def aclaim(self, key, token, seconds):
        return await self._wait()

    async def arelease(self, key, token):
        return await self._wait()

    async def when(self, request):
        return await self._wait()

    async def aprobe(self, limit):
        """Return, as a service that is up does."""

    async def _wait(self):
        self.asked += 1
        try:
            # The usual pattern: a cancel scope around the wait.
            with anyio.fail_after(3600):
                await anyio.sleep_forever()
        finally:
            self.let_off += 1


def answer_of(guard, backend):
    """Send one request with a pair; return the refusal's code, or why it passed unchecked."""
    outcomes = []

    async def app(scope, receive, send):
        outcomes.append(get_decision(scope).unchecked)

    async def send(message):
        if message["type"] == "http.response.body":
            outcomes.append(json.loads(message["body"])["code"])

    async def receive():
        raise AssertionError

    exchange = Exchange(headers=PAIR)
    anyio.run(
        TCaptchaMiddleware(app, guard), scope_of(exchange), receive, send, backend=backend
    )
    return outcomes


def hanging_verifier(forever, **settings):
    return Guard(["/login"], forever, check_timeout=0.02, **settings)


def hanging_replay_store(forever, **settings):
    return Guard(
        ["/login"], FakeVerifier(), replay_store=forever, check_timeout=0.02, **settings
    )


def hanging_when(forever, **settings):
    return Guard(["/login"], FakeVerifier(), when=forever.when, check_timeout=0.02, **settings)


HANGING = {
    "a verifier": (hanging_verifier, {}, "verifier_unavailable"),
    "a verifier, allowed": (
        hanging_verifier,
        {"on_unavailable": "allow"},
        "verifier_unavailable",
    ),
    "a store": (hanging_replay_store, {}, None),
    "a store, denied": (
        hanging_replay_store,
        {"on_replay_store_error": "deny"},
        "verifier_unavailable",
    ),
    "a when": (hanging_when, {"on_unavailable": "allow"}, "misconfigured"),
}


@BOTH
@pytest.mark.parametrize(("guard", "settings", "code"), HANGING.values(), ids=HANGING)
def test_a_verifier_or_store_that_hangs_is_abandoned_and_the_request_refused(
    guard, settings, code, backend
):
    forever = Forever()
    assert answer_of(guard(forever, **settings), backend) == [code]
    assert (forever.asked, forever.let_off) == (1, 1)


@BOTH
def test_a_replay_store_that_hangs_is_not_an_outage(backend):
    class Working(FakeVerifier):
        async def averify(self, ticket):
            await anyio.sleep(0.01)
            return Verdict(1)

    settings = {"check_timeout": 1, "on_unavailable": "allow"}
    guard = Guard(["/login"], Working(), replay_store=Forever(), **settings)
    assert answer_of(guard, backend) == [None]


@BOTH
def test_a_rule_may_have_its_own_deadline(backend):
    guard = Guard([Rule("/login", check_timeout=0.02)], Forever(), check_timeout=60)
    assert answer_of(guard, backend) == ["verifier_unavailable"]


@BOTH
def test_claim_and_verification_share_one_deadline(backend):
    class Slow(FakeVerifier):
        async def aclaim(self, key, token, seconds):
            await anyio.sleep(0.3)
            return True

        async def arelease(self, key, token):
            raise NotImplementedError

        async def averify(self, ticket):
            await anyio.sleep(0.3)
            return Verdict(1)

    both = Slow()
    guard = Guard(["/login"], both, replay_store=both, check_timeout=0.4)
    assert answer_of(guard, backend) == ["verifier_unavailable"]


async def at_once():
    return "done"


async def after_some_waits():
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    return "done"


async def fails_at_once():
    raise ValueError("done")


async def fails_later():
    await anyio.lowlevel.checkpoint()
    raise ValueError("done")


@BOTH
@pytest.mark.parametrize("work", [at_once, after_some_waits])
def test_a_call_that_ends_in_time_returns(work, backend):
    assert anyio.run(lambda: within(3600, work()), backend=backend) == "done"


@BOTH
@pytest.mark.parametrize("work", [fails_at_once, fails_later])
def test_a_call_that_fails_in_time_raises(work, backend):
    with pytest.raises(ValueError, match="done"):
        anyio.run(lambda: within(3600, work()), backend=backend)


def test_under_trio_as_a_guest_of_asyncio_a_call_may_wait():
    async def main():
        loop, outcome = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            lambda: within(3600, after_some_waits()),
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=outcome.set_result,
        )
        return (await outcome).unwrap()

    assert asyncio.run(main()) == "done"


def test_a_future_works_like_a_coroutine():
    async def main():
        thread = ThreadFuture()
        asyncio.get_running_loop().call_soon(thread.set_result, "done")
        return await within(3600, asyncio.wrap_future(thread))

    assert asyncio.run(main()) == "done"


@BOTH
def test_cancellation_from_outside_does_not_count_as_a_timeout(backend):
    forever = Forever()

    async def main():
        with anyio.move_on_after(0.02) as scope:
            await within(3600, forever.averify(None))
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)
    assert forever.let_off == 1


def test_a_call_that_need_not_wait_creates_no_timer():
    timers = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_at = lambda *of: timers.append(of)
        await within(3600, at_once())

    asyncio.run(main())
    assert timers == []


class Busy(FakeVerifier):
    """Answers slowly, but in time, and rejects every ticket."""

    async def averify(self, ticket):
        await anyio.sleep(0.3)
        return Verdict(7)


@BOTH
def test_the_wait_for_a_slot_does_not_count_as_the_verifiers_time(backend):
    guard = Guard(
        ["/login"],
        Busy(),
        max_checks=1,
        check_timeout=0.45,
        on_unavailable="allow",
        replay_store=Anybody(),
    )
    codes = []

    async def app(scope, receive, send):
        raise AssertionError

    async def send(message):
        if message["type"] == "http.response.body":
            codes.append(json.loads(message["body"])["code"])

    async def receive():
        raise AssertionError

    async def main():
        adapter = TCaptchaMiddleware(app, guard)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(adapter, scope_of(Exchange(headers=PAIR)), receive, send)

    anyio.run(main, backend=backend)
    assert codes == ["ticket_rejected"] * 2


class Anybody:
    async def aclaim(self, key, token, seconds):
        return True

    async def arelease(self, key, token):
        raise NotImplementedError
