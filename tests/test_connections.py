"""How many connections checks take, and what becomes of each. Counts, and no times."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import struct
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from unittest.mock import Mock

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpcore
import pytest
from tencents import (  # noqa: F401
    answering,
    certificate,
    http,
    one_context,
    shared_tls,
    speaks_tls,
    trusted_tls,
)

from tcaptcha_middleware import (
    MisconfiguredError,
    OutageError,
    Submission,
    TencentVerifier,
    VerifierError,
)
from tcaptcha_middleware.scoped import PerLoop, PerProcess
from tcaptcha_middleware.verifiers import lines, streams
from tcaptcha_middleware.verifiers.idle import Idle

TICKET = Submission("tr03ticket", "@r", "203.0.113.7")
AT_ONCE, ROUNDS = 16, 4


class Upstream:
    """Counts connections and calls; answers none before so many are under way together."""

    def __init__(self, answer=None, together=1):
        self.answer = answer or http()
        self.connections = self.calls = 0
        self.hung_up = threading.Semaphore(0)
        self.together = threading.Barrier(together)
        self.lock = threading.Lock()

    def __call__(self, connection):
        with self.lock:
            self.connections += 1
        # By the whole call: each comes in one piece.
        while call := connection.recv(65536):
            assert call.startswith(b"POST / HTTP/1.1\r\n")
            assert call.endswith(b"}")
            with self.lock:
                self.calls += 1
            if self.together.parties > 1:
                self.together.wait(10)
            self.respond(connection)
        self.hung_up.release()

    def respond(self, connection):
        connection.sendall(self.answer)


class Closing(Upstream):
    """Answers, and ends the connection in some way, without having said so."""

    def __init__(self, end):
        super().__init__()
        self.end = end
        self.may_end = threading.Event()

    def await_end(self):
        self.may_end.set()
        return self.hung_up.acquire(timeout=10)

    def respond(self, connection):
        try:
            connection.sendall(self.answer)
            self.may_end.wait(10)
            # Where it comes with the answer, the other end may be the first to hang up.
            self.end(connection)
        finally:
            self.hung_up.release()


def verifier(origin, **settings):
    return TencentVerifier(
        190000000,
        "emulatorAppSecretKey12345",
        "AKIDemulator00000000000000000000",
        "emulatorSecretKey000000000000000",
        endpoint=origin,
        **settings,
    )


def in_threads(checker, at_once, rounds):
    def check(_):
        return [checker.verify(TICKET) for _ in range(rounds)]

    with checker, ThreadPoolExecutor(at_once) as threads:
        return list(chain.from_iterable(threads.map(check, range(at_once))))


def in_tasks(backend):
    async def run(checker, at_once, rounds):
        found = []

        async def check():
            found.extend([await checker.averify(TICKET) for _ in range(rounds)])

        async with checker, anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(check)
        return found

    return lambda *arguments: anyio.run(run, *arguments, backend=backend)


def blocking(checker, between):
    with checker:
        return outcome(checker), between(), outcome(checker)


def outcome(checker):
    try:
        return checker.verify(TICKET).code
    except VerifierError as error:
        return type(error)


def awaiting(backend):
    async def aoutcome(checker):
        try:
            return (await checker.averify(TICKET)).code
        except VerifierError as error:
            return type(error)

    async def run(checker, between):
        async with checker:
            first = await aoutcome(checker)
            return first, await anyio.to_thread.run_sync(between), await aoutcome(checker)

    return lambda *arguments: anyio.run(run, *arguments, backend=backend)


def each(**runs):
    return pytest.mark.parametrize("run", runs.values(), ids=runs)


all_at_once = each(sync=in_threads, asyncio=in_tasks("asyncio"), trio=in_tasks("trio"))
one_by_one = each(sync=blocking, asyncio=awaiting("asyncio"), trio=awaiting("trio"))


@pytest.fixture(params=["http", "https"])
def tls(request):
    return request.getfixturevalue("trusted_tls") if request.param == "https" else None


@all_at_once
def test_as_many_connections_are_opened_as_there_are_checks_at_once(run, tls):
    upstream = Upstream(together=AT_ONCE)
    with answering(upstream, tls) as origin:
        verdicts = run(verifier(origin, timeout=10), AT_ONCE, ROUNDS)
    assert [verdict.code for verdict in verdicts] == [1] * AT_ONCE * ROUNDS
    assert (upstream.connections, upstream.calls) == (AT_ONCE, AT_ONCE * ROUNDS)


def shuts_down(connection):
    connection.shutdown(socket.SHUT_WR)


def resets(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def gives_notice(connection):
    connection.sendall(http(b"", "408 Request Timeout", "Connection: close"))
    connection.shutdown(socket.SHUT_WR)


ENDS = {"shut down": shuts_down, "reset": resets, "given notice": gives_notice}


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "later"])
@pytest.mark.parametrize("poll", [True, False], ids=["poll", "select"])
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@one_by_one
def test_a_connection_that_ended_while_it_waited_costs_no_ticket(
    run, end, poll, at_once, monkeypatch
):
    if not poll:
        monkeypatch.delattr(select, "poll")
    upstream = Closing(end)
    if at_once:
        upstream.may_end.set()
    with answering(upstream) as origin:
        found = run(verifier(origin), upstream.await_end)
    assert found == (1, True, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


@one_by_one
def test_a_connection_that_waited_too_long_is_not_used_again(run, monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.verifiers.lines.KEPT", -1.0)
    upstream = Upstream()
    with answering(upstream) as origin:
        assert run(verifier(origin), lambda: None) == (1, None, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


@one_by_one
def test_an_end_in_the_middle_of_a_call_is_an_outage_and_the_call_is_not_repeated(run):
    upstream = Upstream()

    def hang_up():
        upstream.respond = lambda connection: connection.shutdown(socket.SHUT_RDWR)

    with answering(upstream) as origin:
        assert run(verifier(origin), hang_up) == (1, None, OutageError)
    assert (upstream.connections, upstream.calls) == (1, 2)


@one_by_one
def test_an_answer_that_comes_too_late_is_never_the_next_tickets(run):
    upstream = Upstream()
    released = threading.Event()

    def late(connection):
        upstream.respond = lambda connection: connection.sendall(http())
        released.wait(10)
        with suppress(OSError):
            connection.sendall(http(b'{"Response":{"CaptchaCode":21,"RequestId":"r"}}'))

    upstream.respond = late
    with answering(upstream) as origin:
        found = run(verifier(origin, timeout=0.5), released.set)
    assert found == (OutageError, None, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


REFUSED = http(b'{"Response":{"CaptchaCode":21,"RequestId":"r"}}')
SECONDS = {
    "whole": [REFUSED + http()],
    "apart": [REFUSED, http()],
    "half": [REFUSED + http()[:50], http()[50:]],
}


@pytest.mark.parametrize("pieces", SECONDS.values(), ids=SECONDS)
@one_by_one
def test_a_second_answer_to_one_ticket_is_never_the_next_tickets(run, pieces, tls):
    upstream = Upstream()
    sent = threading.Event()

    def twice(connection):
        upstream.respond = lambda connection: connection.sendall(REFUSED)
        for piece in pieces:
            connection.sendall(piece)
        sent.set()

    upstream.respond = twice
    with answering(upstream, tls) as origin:
        assert run(verifier(origin), lambda: sent.wait(10)) == (21, True, 21)
    assert (upstream.connections, upstream.calls) == (2, 2)


@one_by_one
def test_a_connection_that_the_other_end_gives_up_is_not_kept(run):
    upstream = Upstream(http(http_body(), "200 OK", "Connection: close"))
    with answering(upstream) as origin:
        assert run(verifier(origin), lambda: None) == (1, None, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


def http_body():
    return b'{"Response":{"CaptchaCode":1,"RequestId":"r"}}'


def test_a_check_that_outlives_close_closes_its_connection():
    upstream = Upstream(together=2)
    with answering(upstream) as origin, ThreadPoolExecutor(1) as threads:
        checker = verifier(origin)
        checking = threads.submit(checker.verify, TICKET)
        while not upstream.calls:
            pass
        checker.close()
        upstream.together.wait(10)
        assert checking.result().passed
        assert upstream.hung_up.acquire(timeout=10)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_check_that_outlives_aclose_closes_its_connection(backend):
    upstream = Upstream(together=2)

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(checker.averify, TICKET)
            while not upstream.calls:
                await anyio.lowlevel.checkpoint()
            await checker.aclose()
            await anyio.to_thread.run_sync(upstream.together.wait, 10)
        assert await anyio.to_thread.run_sync(lambda: upstream.hung_up.acquire(timeout=10))

    with answering(upstream) as origin:
        checker = verifier(origin)
        anyio.run(main, backend=backend)


def test_the_event_loop_is_never_blocked(tls):
    upstream = Upstream(together=AT_ONCE)
    # It would fail of itself: see conftest.py.
    with answering(upstream, tls) as origin:
        verdicts = in_tasks("asyncio")(verifier(origin, timeout=10), AT_ONCE, ROUNDS)
    assert all(verdict.passed for verdict in verdicts)


def test_authorities_are_read_once_and_outside_of_the_event_loop(
    speaks_tls,  # noqa: F811
    certificate,  # noqa: F811
    monkeypatch,
):
    readers = []

    def where():
        readers.append(threading.current_thread())
        return str(certificate)

    monkeypatch.setattr("certifi.where", where)
    lines.tls.cache_clear()
    try:
        with answering(Upstream(), speaks_tls) as origin:
            for _ in range(2):
                assert in_tasks("asyncio")(verifier(origin), 1, 1)[0].passed
    finally:
        lines.tls.cache_clear()
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()


class Provider:
    """Hands out the API key, in the way of the official SDK."""

    def get_credential_info(self):
        return "AKIDemulator00000000000000000000", "emulatorSecretKey000000000000000", None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_application_that_has_no_thread_to_spare_is_no_outage(backend, host, trusted_tls):  # noqa: F811
    over = threading.Event()

    async def main():
        shared = anyio.to_thread.current_default_thread_limiter()
        for borrower in map(str, range(int(shared.total_tokens))):
            shared.acquire_on_behalf_of_nowait(borrower)
        if backend == "asyncio":
            loop = asyncio.get_running_loop()
            for _ in range(64):
                loop.run_in_executor(None, over.wait, 20)
        try:
            return await check()
        finally:
            over.set()

    async def check():
        async with TencentVerifier(
            190000000,
            "emulatorAppSecretKey12345",
            endpoint=origin.replace("127.0.0.1", host),
            credentials=Provider(),
            timeout=2,
        ) as checker:
            return await checker.averify(TICKET)

    with answering(Upstream(), trusted_tls) as origin:
        assert anyio.run(main, backend=backend).passed


class Silent:
    """Connects to nothing, and notes to what, and for how long."""

    def __init__(self, tried):
        self.tried = tried

    def connect_tcp(self, host, port, timeout):
        self.tried.append((host, round(timeout)))
        raise (httpcore.ConnectTimeout if host == "192.0.2.2" else httpcore.ConnectError)


ADDRESSES = {
    "the last is silent": ([("192.0.2.1", 3), ("192.0.2.2", 6)], "too long"),
    "one behind is asked": (
        [("192.0.2.2", 2), ("192.0.2.1", 3), ("192.0.2.3", 6)],
        "ConnectError",
    ),
    "all refuse": ([("192.0.2.1", 6)], "ConnectError"),
    "none": ([], "OSError"),
}


@pytest.mark.parametrize(("attempts", "message"), ADDRESSES.values(), ids=ADDRESSES)
def test_a_blocking_check_has_one_deadline_for_all_addresses(attempts, message, monkeypatch):
    found, tried = [(0, 0, 0, "", (address, 443)) for address, _ in attempts], []
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
    monkeypatch.setattr("httpcore.SyncBackend", lambda: Silent(tried))
    with pytest.raises(OutageError, match=message):
        verifier("http://captcha.example", timeout=6).verify(TICKET)
    assert tried == attempts


# The parts.


class Line:
    expired = False

    def __init__(self, name):
        self.name = name

    def has_expired(self):
        return self.expired


@pytest.mark.parametrize("error", [MisconfiguredError("none"), TimeoutError()], ids=repr)
def test_a_socket_that_is_not_secured_is_closed(error, monkeypatch):
    def fail():
        raise error

    stream = Mock(httpcore.NetworkStream)
    monkeypatch.setattr("tcaptcha_middleware.verifiers.lines.dial", lambda *_: stream)
    monkeypatch.setattr("tcaptcha_middleware.verifiers.lines.tls", fail)
    with pytest.raises(type(error)):
        lines.Line.open(httpcore.URL("https://captcha.example").origin, 1e9)
    stream.close.assert_called_once()


def test_the_last_used_connection_is_the_next_to_be_used():
    idle = Idle()
    first, second = Line("first"), Line("second")
    assert [idle.keep(first), idle.keep(second)] == [None, None]
    assert [idle.newest(), idle.newest(), idle.newest()] == [second, first, None]


def test_each_connection_that_comes_back_shows_one_out_that_has_expired():
    idle = Idle()
    old, older, new = Line("old"), Line("older"), Line("new")
    for line in (older, old):
        idle.keep(line)
    older.expired = old.expired = True
    assert [idle.keep(new), idle.keep(Line("newest"))] == [older, old]
    assert idle.newest().name == "newest"


def test_what_is_closed_hands_out_all_and_keeps_none():
    idle = Idle()
    first, second = Line("first"), Line("second")
    idle.keep(first)
    assert idle.close() == [first]
    assert idle.keep(second) is second
    assert idle.close() == []


def test_a_socket_that_is_closed_would_end_a_read_at_once():
    assert streams._is_readable(-1)


def test_each_event_loop_has_a_value_of_its_own():
    values = PerLoop(object)

    async def main():
        mine = values.get()
        assert values.get() is mine
        assert values.take() is mine
        assert values.take() is None
        return values.get()

    assert asyncio.run(main()) is not asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_a_loop_left_behind_goes_when_another_comes(backend):
    values = PerLoop(LoopBound)

    async def main():
        return weakref.ref(values.get())

    left_behind = [anyio.run(main, backend=backend) for _ in range(3)]
    gc.collect()
    assert [one() for one in left_behind[:2]] == [None, None]


class LoopBound:
    """Holds on to its loop, as a socket of asyncio's does."""

    def __init__(self):
        with suppress(RuntimeError):
            self.loop = asyncio.get_running_loop()


def test_two_variables_of_one_event_loop_are_apart():
    async def main():
        return PerLoop(list).get() is PerLoop(list).get()

    assert not asyncio.run(main())


def test_a_fork_has_a_value_of_its_own_and_forgets_its_parents(monkeypatch):
    values = PerProcess(object)
    parents = values.get()
    assert values.get() is parents
    monkeypatch.setattr("tcaptcha_middleware.scoped.os.getpid", lambda: -1)
    assert values.get() is not parents
    monkeypatch.undo()
    assert values.take() is None
