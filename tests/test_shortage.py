"""What is short on this machine is told from an outage, however libraries wrapped it."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import suppress

import anyio
import anyio.from_thread
import pytest

from tcaptcha_middleware import MisconfiguredError, OutageError, ThrottledError
from tcaptcha_middleware.verifiers import lines
from tcaptcha_middleware.verifiers.shortage import unreached
from tcaptcha_middleware.verifiers.workers import Aside, Workers


def failed(number):
    return OSError(number, os.strerror(number))


def caused(error):
    try:
        raise ConnectionError from error
    except ConnectionError as wrapper:
        return wrapper


def during(error):
    try:
        try:
            raise error
        except type(error):
            raise ConnectionError  # noqa: B904  as libraries do
    except ConnectionError as wrapper:
        return wrapper


def circular(error):
    error.__cause__ = wrapper = ConnectionError()
    wrapper.__context__ = error
    return wrapper


WRAPPED = {
    "bare": lambda error: error,
    "as a cause": caused,
    "as a context": during,
    "twice": lambda error: caused(during(error)),
    "in a group": lambda error: caused(ExceptionGroup("tried", [ValueError(), error])),
    "in a circle": circular,
}
SHORT = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL"]
AWAY = ["ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT"]


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("name", SHORT + AWAY)
def test_a_shortage_is_never_an_outage(name, wrapped):
    kind = ThrottledError if name in SHORT else OutageError
    error = unreached(wrapped(failed(getattr(errno, name))))
    assert (type(error), error.answered) == (kind, kind is OutageError)


def test_where_no_socket_can_be_had_nothing_proves_an_outage(monkeypatch):
    def none_left(*_):
        raise failed(errno.EMFILE)

    monkeypatch.setattr("socket.socket", none_left)
    # Looked up without a file, a name is only not found.
    assert type(unreached(socket.gaierror(socket.EAI_AGAIN, "try again"))) is ThrottledError


def test_authorities_that_are_not_there_are_no_outage(monkeypatch, tmp_path):
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "gone.pem"))
    lines.tls.cache_clear()
    with pytest.raises(MisconfiguredError, match="install it anew"):
        lines.tls()


# Threads.


def test_nobody_waits_for_a_thread(monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.verifiers.workers.WORKERS", 2)
    over = threading.Event()
    with Workers("test") as workers:
        calls = [workers.submit(over.wait, 20) for _ in range(2)]
        with pytest.raises(ThrottledError) as caught:
            workers.submit(over.wait, 20)
        assert not caught.value.answered
        over.set()
        assert all(call.result(20) for call in calls)
        assert workers.submit(over.wait, 20).result(20)


def test_a_call_that_could_not_begin_or_failed_takes_no_place(monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.verifiers.workers.WORKERS", 1)
    workers = Workers("test")
    with pytest.raises(ZeroDivisionError):
        workers.submit(lambda: 1 / 0).result(20)
    workers.shutdown()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="shutdown"):
            workers.submit(print)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_calls_that_are_left_behind_hold_their_places_and_keep_nobody_waiting(
    backend, monkeypatch
):
    monkeypatch.setattr("tcaptcha_middleware.verifiers.workers.WORKERS", 2)
    aside, over, left_behind = Aside(), threading.Event(), []

    def hang(begun):
        left_behind.append(threading.current_thread())
        anyio.from_thread.run_sync(begun.set)
        over.wait(20)

    async def main():
        for _ in range(2):
            begun = anyio.Event()
            async with anyio.create_task_group() as checks:
                checks.start_soon(aside.run, hang, begun)
                await begun.wait()
                checks.cancel_scope.cancel()
        with anyio.fail_after(5), pytest.raises(ThrottledError) as caught:
            await aside.run(hang, begun)
        assert not caught.value.answered
        assert await Aside().run(lambda: "no place of theirs") == "no place of theirs"
        over.set()
        with anyio.fail_after(5):
            while True:
                with suppress(ThrottledError):
                    return await aside.run(lambda: "a place")
                await anyio.sleep(0.01)

    assert anyio.run(main, backend=backend) == "a place"
    assert len(left_behind) == 2
