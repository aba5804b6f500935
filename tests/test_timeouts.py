"""Every wait of the ASGI face has a deadline, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future as ThreadFuture

import anyio
import anyio.lowlevel
import pytest
from adapters import Exchange, scope_of

from tcaptcha_middleware import Guard, Rule, TCaptchaMiddleware, Verdict, get_decision
from tcaptcha_middleware.asgi import within
from tcaptcha_middleware.testing import FakeVerifier

PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Forever:
    """A verifier and a store that never answer, and note that they were let off."""

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
            # A scope of its own, as most careful code has one.
            with anyio.fail_after(3600):
                await anyio.sleep_forever()
        finally:
            self.let_off += 1


def answer_of(guard, backend):
    """Send one request with a pair; gives the refusal's code, or why it went on unchecked."""
    told = []

    async def app(scope, receive, send):
        told.append(get_decision(scope).unchecked)

    async def send(message):
        if message["type"] == "http.response.body":
            told.append(json.loads(message["body"])["code"])

    async def receive():
        raise AssertionError

    exchange = Exchange(headers=PAIR)
    anyio.run(
        TCaptchaMiddleware(app, guard), scope_of(exchange), receive, send, backend=backend
    )
    return told


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
def test_what_never_answers_is_let_off_and_the_request_answered(guard, settings, code, backend):
    forever = Forever()
    assert answer_of(guard(forever, **settings), backend) == [code]
    assert (forever.asked, forever.let_off) == (1, 1)


@BOTH
def test_a_store_that_never_answers_is_no_outage_of_tencents(backend):
    class Working(FakeVerifier):
        async def averify(self, ticket):
            await anyio.sleep(0.01)
            return Verdict(1)

    settings = {"check_timeout": 1, "on_unavailable": "allow"}
    guard = Guard(["/login"], Working(), replay_store=Forever(), **settings)
    assert answer_of(guard, backend) == [None]


@BOTH
def test_a_rule_has_a_deadline_of_its_own(backend):
    guard = Guard([Rule("/login", check_timeout=0.02)], Forever(), check_timeout=60)
    assert answer_of(guard, backend) == ["verifier_unavailable"]


@BOTH
def test_claim_and_check_share_one_deadline(backend):
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
def test_what_is_awaited_in_time_returns(work, backend):
    assert anyio.run(lambda: within(3600, work()), backend=backend) == "done"


@BOTH
@pytest.mark.parametrize("work", [fails_at_once, fails_later])
def test_what_is_awaited_in_time_raises(work, backend):
    with pytest.raises(ValueError, match="done"):
        anyio.run(lambda: within(3600, work()), backend=backend)


def test_a_future_is_as_good_as_a_coroutine():
    async def main():
        thread = ThreadFuture()
        asyncio.get_running_loop().call_soon(thread.set_result, "done")
        return await within(3600, asyncio.wrap_future(thread))

    assert asyncio.run(main()) == "done"


@BOTH
def test_what_is_called_off_from_outside_is_no_timeout(backend):
    forever = Forever()

    async def main():
        with anyio.move_on_after(0.02) as scope:
            await within(3600, forever.averify(None))
        return scope.cancelled_caught

    assert anyio.run(main, backend=backend)
    assert forever.let_off == 1


def test_what_need_not_wait_makes_no_timer():
    timers = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_at = lambda *of: timers.append(of)
        await within(3600, at_once())

    asyncio.run(main())
    assert timers == []


class Busy(FakeVerifier):
    """Takes its time, though not too long, and refuses everybody."""

    async def averify(self, ticket):
        await anyio.sleep(0.3)
        return Verdict(7)


@BOTH
def test_the_wait_for_a_place_is_not_the_verifiers_time(backend):
    guard = Guard(
        ["/login"],
        Busy(),
        max_checks=1,
        check_timeout=0.45,
        on_unavailable="allow",
        replay_store=Anybody(),
    )
    told = []

    async def app(scope, receive, send):
        raise AssertionError

    async def send(message):
        if message["type"] == "http.response.body":
            told.append(json.loads(message["body"])["code"])

    async def receive():
        raise AssertionError

    async def main():
        face = TCaptchaMiddleware(app, guard)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(face, scope_of(Exchange(headers=PAIR)), receive, send)

    anyio.run(main, backend=backend)
    assert told == ["ticket_rejected"] * 2


class Anybody:
    async def aclaim(self, key, token, seconds):
        return True

    async def arelease(self, key, token):
        raise NotImplementedError
