"""Daemon threads for calls that block: bounded, and never waited for at exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import anyio
import pytest

from tcaptcha_middleware import ThrottledError
from tcaptcha_middleware.threadpool import BoundedThreadPool, SingleFlight, result_of

BOTH = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@pytest.fixture
def over():
    event = threading.Event()
    yield event
    event.set()


def test_no_call_waits_for_a_thread(over):
    pool = BoundedThreadPool("test", 2)
    calls = [pool.submit(over.wait, 20) for _ in range(2)]
    with pytest.raises(ThrottledError, match="too many") as caught:
        pool.submit(over.wait, 20)
    assert (caught.value.answered, caught.value.sent) == (False, False)
    over.set()
    assert all(call.result(20) for call in calls)
    assert pool.submit(over.wait, 20).result(20)


def test_a_call_that_fails_frees_its_thread():
    pool = BoundedThreadPool("test", 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result(20)
    assert pool.submit(lambda: "free").result(20) == "free"


def test_threads_are_reused_and_end_when_the_pool_is_closed():
    pool = BoundedThreadPool("test")
    first, second = (pool.submit(threading.current_thread).result(20) for _ in range(2))
    assert first is second
    assert first.daemon
    pool.close()
    first.join(20)
    assert not first.is_alive()
    assert pool.submit(threading.current_thread).result(20) is not first
    pool.close()


def test_a_pool_may_be_closed_unused():
    BoundedThreadPool("test").close()


@pytest.fixture
def no_threads(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_without_a_thread_a_call_is_throttled(no_threads, monkeypatch):
    pool, flight = BoundedThreadPool("test", 1), SingleFlight("test", lambda: "landed")
    for _ in range(2):
        with pytest.raises(ThrottledError, match="ulimit -u"):
            pool.submit(print)
        with pytest.raises(ThrottledError, match="ulimit -u"):
            flight.start()
    monkeypatch.undo()
    assert pool.submit(lambda: "ran").result(20) == "ran"
    assert flight.start().result(20) == "landed"


def test_concurrent_callers_share_one_call(over):
    started = []

    def work():
        started.append(1)
        over.wait(20)
        return len(started)

    flight = SingleFlight("test", work)
    calls = [flight.start() for _ in range(3)]
    over.set()
    assert [call.result(20) for call in calls] == [1, 1, 1]
    assert flight.start().result(20) == 2


def test_a_shared_call_that_fails_is_repeated():
    flight = SingleFlight("test", lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            flight.start().result(20)


@BOTH
def test_a_result_is_awaited(backend, over):
    pool = BoundedThreadPool("test")

    async def main():
        call = pool.submit(over.wait, 20)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(result_of, call)
            over.set()
        with pytest.raises(ZeroDivisionError):
            await result_of(pool.submit(lambda: 1 / 0))
        return await result_of(call)

    assert anyio.run(main, backend=backend)


@BOTH
def test_abandoned_calls_keep_their_threads_and_block_no_others(backend, over):
    pool = BoundedThreadPool("test", 2)

    async def main():
        for _ in range(2):
            with anyio.move_on_after(0.01):
                await result_of(pool.submit(over.wait, 20))
        with pytest.raises(ThrottledError):
            pool.submit(print)

    anyio.run(main, backend=backend)


def test_a_result_after_the_end_of_the_loop_is_ignored(over):
    pool = BoundedThreadPool("test")
    calls = []

    async def main():
        calls.append(pool.submit(over.wait, 20))
        with anyio.move_on_after(0.01):
            await result_of(calls[0])

    asyncio.run(main())
    over.set()
    assert calls[0].result(20)


# Exit.

ABANDON = """
import threading, time
from tcaptcha_middleware import {imports}
from tcaptcha_middleware.models import Submission
began = threading.Event()
def hang(*_, **__):
    began.set()
    time.sleep(60)
    return [None] * 3
ticket = Submission("tr03", "@r", "203.0.113.7")
secrets = dict(app_id=190000000, app_secret_key="emulatorAppSecretKey12345")
key = dict(secret_id="AKIDemulator00000000000000000000", secret_key="emulatorSecretKey0000")
"""
LEFT_BEHIND = {
    "in_thread": (
        "in_thread",
        """
import anyio
class Hanging:
    verify = staticmethod(hang)
async def main():
    with anyio.move_on_after(0.1):
        await in_thread(Hanging()).averify(ticket)
anyio.run(main)
""",
    ),
    "names": (
        "TencentVerifier, VerifierError",
        """
import socket
socket.getaddrinfo = hang
try:
    TencentVerifier(**secrets, **key, timeout=0.1, endpoint="http://localhost:9").verify(ticket)
except VerifierError as error:
    assert "name was not resolved" in str(error), error
""",
    ),
    "credentials": (
        "TencentVerifier, VerifierError",
        """
class Provider:
    get_credential_info = staticmethod(hang)
try:
    TencentVerifier(**secrets, credentials=Provider(), timeout=0.1).verify(ticket)
except VerifierError as error:
    assert "took too long" in str(error), error
""",
    ),
    "the official client": (
        "OutageError",
        """
from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier
class Client:
    DescribeCaptchaResult = None
    call = staticmethod(hang)
    class profile:
        retryer = None
try:
    TencentSDKVerifier(Client(), *secrets.values(), timeout=0.1).verify(ticket)
except OutageError as error:
    assert "took too long" in str(error), error
""",
    ),
}


@pytest.mark.parametrize(("imports", "code"), LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_exit_does_not_wait_for_an_abandoned_call(imports, code):
    script = ABANDON.format(imports=imports) + code
    script += "assert began.is_set()\nprint(time.time())\n"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert run.returncode == 0, run.stderr
    assert time.time() - float(run.stdout) < 10
