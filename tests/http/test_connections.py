"""The connection pool: how many connections verifications open, reuse and drop."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import ssl
import struct
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from unittest.mock import Mock

import anyio
import anyio.lowlevel
import anyio.to_thread
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
    OutageError,
    Submission,
    TencentVerifier,
    VerifierError,
)
from tcaptcha_middleware._http.client import SILENCE, ConnectionPool
from tcaptcha_middleware._http.connection import Connection, Progress
from tcaptcha_middleware.scoped import PerLoop, PerProcess
from tcaptcha_middleware.verifiers.tencent import default_context
from tcaptcha_middleware.waiting import Wakeup, arun
from tcaptcha_middleware.waiting import run as run_steps

TICKET = Submission("tr03ticket", "@r", "203.0.113.7")
AT_ONCE, ROUNDS = 16, 4


class Upstream:
    """Counts connections and calls; answers only once so many are in flight."""

    def __init__(self, answer=None, together=1):
        self.answer = answer or http()
        self.connections = self.calls = 0
        self.hung_up = threading.Semaphore(0)
        self.together = threading.Barrier(together)
        self.lock = threading.Lock()

    def __call__(self, connection):
        with self.lock:
            self.connections += 1
        # Each call arrives in one piece.
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
    """Answers, and ends the connection in some way without announcing it."""

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
            # If the end comes with the answer, the client may close the connection first.
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
        verdicts = []

        async def check():
            verdicts.extend([await checker.averify(TICKET) for _ in range(rounds)])

        async with checker, anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(check)
        return verdicts

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
def test_as_many_connections_are_opened_as_verifications_run_at_once(run, tls):
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
def test_an_idle_connection_that_was_closed_costs_no_ticket(
    run, end, poll, at_once, monkeypatch
):
    if not poll:
        monkeypatch.delattr(select, "poll")
    upstream = Closing(end)
    if at_once:
        upstream.may_end.set()
    with answering(upstream) as origin:
        result = run(verifier(origin), upstream.await_end)
    assert result == (1, True, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


def test_a_loop_that_cannot_watch_sockets_waits_with_anyio(monkeypatch):
    def add_reader(*_):
        raise NotImplementedError  # as on Windows

    monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", add_reader)
    with answering(Upstream()) as origin:
        assert awaiting("asyncio")(verifier(origin), lambda: None) == (1, None, 1)


@pytest.mark.parametrize("limit", ["IDLE", "MAX_AGE"])
@one_by_one
def test_an_idle_connection_that_expired_is_not_reused(run, limit, monkeypatch):
    monkeypatch.setattr(f"tcaptcha_middleware._http.client.{limit}", -1.0)
    upstream = Upstream()
    with answering(upstream) as origin:
        assert run(verifier(origin), lambda: None) == (1, None, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


class Dying(Upstream):
    """Answers the first call on each old connection, and fails the second in some way."""

    def __init__(self, fail, old=1):
        super().__init__()
        self.fail, self.old = fail, old

    def __call__(self, connection):
        with self.lock:
            self.connections += 1
            is_old = self.connections <= self.old
        calls = 0
        while connection.recv(65536):
            calls += 1
            with self.lock:
                self.calls += 1
            if is_old and calls > 1:
                self.fail(connection)
                return
            self.respond(connection)


def stays_silent(connection):
    connection.recv(65536)


FAILURES = {"shut down": shuts_down, "reset": resets, "silent": stays_silent}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware._http.client.SILENCE", 0.1)


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
@one_by_one
def test_a_call_is_resent_on_a_new_connection_if_an_idle_one_fails(run, fail, impatient, tls):
    upstream = Dying(fail)
    with answering(upstream, tls) as origin:
        assert run(verifier(origin), lambda: None) == (1, None, 1)
    assert (upstream.connections, upstream.calls) == (2, 3)


@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("dead", [2, 12, 60])
def test_dead_connections_cause_no_refusal(dead, fail, impatient):
    upstream = Dying(fail, old=dead)
    upstream.together = threading.Barrier(dead)
    respond = upstream.respond

    def together(connection):
        upstream.together.wait(10)
        respond(connection)

    upstream.respond = together
    with answering(upstream) as origin, verifier(origin, timeout=10) as checker:
        with ThreadPoolExecutor(dead) as threads:
            list(threads.map(checker.verify, [TICKET] * dead))
        upstream.respond = respond
        verdicts = [checker.verify(TICKET) for _ in range(20)]
    assert [verdict.resent for verdict in verdicts] == [True] + [False] * 19
    assert (upstream.connections, upstream.calls) == (dead + 1, dead + 21)


@one_by_one
def test_a_call_to_a_slow_service_is_not_resent(run, impatient):
    upstream = Upstream()

    def slowly(connection):
        threading.Event().wait(0.2)
        connection.sendall(http())

    upstream.respond = slowly
    with answering(upstream) as origin:
        assert run(verifier(origin), lambda: None) == (1, None, 1)
    assert (upstream.connections, upstream.calls) == (1, 2)


def half_an_answer(connection):
    connection.sendall(http()[:9])
    connection.shutdown(socket.SHUT_WR)


@one_by_one
def test_a_call_is_not_resent_after_the_first_byte_of_an_answer(run):
    upstream = Dying(half_an_answer)
    with answering(upstream) as origin:
        assert run(verifier(origin), lambda: None) == (1, None, VerifierError)
    assert (upstream.connections, upstream.calls) == (1, 2)


@one_by_one
def test_a_call_is_sent_twice_at_most(run):
    upstream = Upstream()

    def hang_up():
        upstream.respond = lambda connection: connection.shutdown(socket.SHUT_RDWR)

    with answering(upstream) as origin:
        assert run(verifier(origin), hang_up) == (1, None, OutageError)
    assert (upstream.connections, upstream.calls) == (2, 3)


@pytest.mark.parametrize("ends", ["deadline", "cancelled"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_timeout_drops_idle_connections_and_a_cancelled_request_does_not(backend, ends):
    upstream = Upstream(together=2)

    async def main(checker):
        async with checker:
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(checker.averify, TICKET)
            before = upstream.connections
            upstream.respond = stays_silent
            upstream.together = threading.Barrier(1)
            if ends == "deadline":
                with pytest.raises(OutageError):
                    await checker.averify(TICKET)
            else:
                with anyio.move_on_after(0.05):
                    await checker.averify(TICKET)
            upstream.respond = lambda connection: connection.sendall(http())
            assert (await checker.averify(TICKET)).passed
            return before, upstream.connections

    with answering(upstream) as origin:
        counts = anyio.run(main, verifier(origin, timeout=0.5), backend=backend)
    assert counts == ((2, 3) if ends == "deadline" else (2, 2))


@one_by_one
def test_a_late_answer_is_never_taken_for_the_next_ticket(run):
    upstream = Upstream()
    released = threading.Event()

    def late(connection):
        upstream.respond = lambda connection: connection.sendall(http())
        released.wait(10)
        with suppress(OSError):
            connection.sendall(http(b'{"Response":{"CaptchaCode":21,"RequestId":"r"}}'))

    upstream.respond = late
    with answering(upstream) as origin:
        result = run(verifier(origin, timeout=0.5), released.set)
    assert result == (OutageError, None, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


REFUSED = http(b'{"Response":{"CaptchaCode":21,"RequestId":"r"}}')
SECONDS = {
    "whole": [REFUSED + http()],
    "apart": [REFUSED, http()],
    "half": [REFUSED + http()[:50], http()[50:]],
}


@pytest.mark.parametrize("pieces", SECONDS.values(), ids=SECONDS)
@one_by_one
def test_a_second_answer_is_never_taken_for_the_next_ticket(run, pieces, tls):
    upstream = Upstream()
    answered, sent = threading.Event(), threading.Event()

    def twice(connection):
        upstream.respond = lambda connection: connection.sendall(REFUSED)
        first, *others = pieces
        connection.sendall(first)
        answered.wait(10)
        with suppress(OSError):  # the connection may have been closed
            for piece in others:
                connection.sendall(piece)
        sent.set()

    def between():
        answered.set()
        return sent.wait(10)

    upstream.respond = twice
    with answering(upstream, tls) as origin:
        assert run(verifier(origin), between) == (21, True, 21)
    assert (upstream.connections, upstream.calls) == (2, 2)


@one_by_one
def test_a_connection_that_the_server_will_close_is_not_reused(run):
    upstream = Upstream(http(http_body(), "200 OK", "Connection: close"))
    with answering(upstream) as origin:
        assert run(verifier(origin), lambda: None) == (1, None, 1)
    assert (upstream.connections, upstream.calls) == (2, 2)


def http_body():
    return b'{"Response":{"CaptchaCode":1,"RequestId":"r"}}'


def test_a_verification_that_outlives_close_closes_its_connection():
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
def test_a_verification_that_outlives_aclose_closes_its_connection(backend):
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
    # A blocking call would fail: see conftest.py.
    with answering(upstream, tls) as origin:
        verdicts = in_tasks("asyncio")(verifier(origin, timeout=10), AT_ONCE, ROUNDS)
    assert all(verdict.passed for verdict in verdicts)


def test_certificate_authorities_are_loaded_once_and_outside_the_event_loop(
    speaks_tls,  # noqa: F811
    certificate,  # noqa: F811
    monkeypatch,
):
    readers = []

    def where():
        readers.append(threading.current_thread())
        return str(certificate)

    monkeypatch.setattr("certifi.where", where)
    default_context.cache_clear()
    try:
        with answering(Upstream(), speaks_tls) as origin:
            for _ in range(2):
                assert in_tasks("asyncio")(verifier(origin), 1, 1)[0].passed
    finally:
        default_context.cache_clear()
    assert len(readers) == 1
    assert readers[0] is not threading.main_thread()


class Provider:
    """Returns the API key, as the official SDK's credentials do."""

    def get_credential_info(self):
        return "AKIDemulator00000000000000000000", "emulatorSecretKey000000000000000", None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_application_without_free_threads_is_not_an_outage(backend, host, trusted_tls):  # noqa: F811
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


# The pool.


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Kept:
    """A connection, as far as the pool uses it."""

    closed = False

    def __init__(self, clock):
        self.born = self.expires = clock()

    def is_quiet(self):
        return True

    def close(self):
        self.closed = True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pool(clock):
    return ConnectionPool(clock)


def kept(pool, clock, count):
    connections = [Kept(clock) for _ in range(count)]
    for connection in connections:
        pool.keep(connection, 0.01)
    return connections


def test_the_last_used_connection_is_the_next_to_be_used(pool, clock):
    first, second = kept(pool, clock, 2)
    assert [pool.take(), pool.take(), pool.take()] == [second, first, None]


@pytest.mark.parametrize(("seconds", "is_used"), [(60, True), (60.5, False)])
def test_an_idle_connection_is_used_for_a_minute(pool, clock, seconds, is_used):
    [connection] = kept(pool, clock, 1)
    clock.now += seconds
    assert pool.take() is (connection if is_used else None)
    assert connection.closed is not is_used


@pytest.mark.parametrize(("steps", "is_used"), [(6, True), (7, False)])
def test_a_busy_connection_is_used_for_five_minutes(pool, clock, steps, is_used):
    [connection] = kept(pool, clock, 1)
    for _ in range(steps):
        clock.now += 50
        if (taken := pool.take()) is not None:
            pool.keep(taken, 0.01)
    assert pool.take() is (connection if is_used else None)


def test_each_returned_connection_closes_one_expired_connection(pool, clock):
    old = kept(pool, clock, 2)
    clock.now += 61
    new = kept(pool, clock, 2)
    assert [connection.closed for connection in old + new] == [True, True, False, False]
    assert [pool.take(), pool.take(), pool.take()] == [new[1], new[0], None]


def test_a_closed_pool_keeps_no_connection(pool, clock):
    connections = kept(pool, clock, 2)
    pool.close()
    connections += kept(pool, clock, 1)
    assert all(connection.closed for connection in connections)
    assert pool.take() is None


def test_an_idle_connection_may_be_silent_for_three_times_the_usual(pool, clock):
    assert pool.patience == SILENCE
    pool.keep(Kept(clock), 2.0)
    assert pool.patience == 6.0
    for _ in range(30):
        pool.keep(Kept(clock), 0.1)
    assert pool.patience == SILENCE


def test_a_connection_is_quiet_until_there_is_something_to_read():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        connection = Connection(ours)
        assert connection.is_quiet()
        theirs.send(b"x")
        assert not connection.is_quiet()
        ours.recv(1)
        assert connection.is_quiet()
        theirs.close()
        assert not connection.is_quiet()


def test_a_connection_with_encrypted_bytes_left_is_not_quiet():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        connection = Connection(ours)
        connection._tls, connection._incoming = Mock(pending=lambda: 0), ssl.MemoryBIO()
        assert connection.is_quiet()
        connection._incoming.write(b"x")
        assert not connection.is_quiet()


def test_a_connection_that_was_reset_is_not_quiet():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    with ours:
        ours.setblocking(False)
        connection = Connection(ours)
        assert connection.is_quiet()
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()
        assert not connection.is_quiet()


@pytest.mark.parametrize("backend", ["sync", "asyncio", "trio"])
def test_a_request_is_sent_completely_to_a_slow_reader(backend):
    ours, theirs = socket.socketpair()
    request, received = b"x" * 5_000_000, []

    def read():
        while (size := sum(map(len, received))) < len(request):
            received.append(theirs.recv(len(request) - size))
        theirs.sendall(http())

    async def main():
        return await arun(steps, time.monotonic() + 10)

    with ours, theirs, ThreadPoolExecutor(1) as threads:
        ours.setblocking(False)
        steps = Connection(ours).exchange(request, Progress(), 5.0)
        threads.submit(read)
        if backend == "sync":
            answer = run_steps(steps, time.monotonic() + 10)
        else:
            answer = anyio.run(main, backend=backend)
    assert (answer.status, b"".join(received) == request) == (200, True)


def test_a_spuriously_readable_socket_is_waited_for_again():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        steps = Connection(ours).exchange(b"{}", Progress(), 5.0)
        next(steps)
        assert steps.send(True).sockets == [ours]
        theirs.sendall(http())
        with pytest.raises(StopIteration) as end:
            steps.send(True)
    assert end.value.value.status == 200


@pytest.mark.parametrize("first", [True, False])
def test_a_wakeup_is_set_or_over_once(first):
    async def main():
        wakeup = Wakeup()
        wakeup.resolve(first)
        wakeup.resolve(not first)
        return await wakeup.wait(0)

    assert asyncio.run(main()) is first


def test_each_event_loop_has_its_own_value():
    values = PerLoop(object)

    async def main():
        mine = values.get()
        assert values.get() is mine
        assert values.take() is mine
        assert values.take() is None
        return values.get()

    assert asyncio.run(main()) is not asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_values_of_a_closed_loop_are_dropped_when_another_one_starts(backend):
    values = PerLoop(LoopBound)

    async def main():
        return weakref.ref(values.get())

    left_behind = [anyio.run(main, backend=backend) for _ in range(3)]
    gc.collect()
    assert [reference() for reference in left_behind[:2]] == [None, None]


class LoopBound:
    """Keeps a reference to its loop, as an asyncio socket does."""

    def __init__(self):
        with suppress(RuntimeError):
            self.loop = asyncio.get_running_loop()


def test_two_variables_of_one_event_loop_are_independent():
    async def main():
        return PerLoop(list).get() is PerLoop(list).get()

    assert not asyncio.run(main())


def test_a_fork_has_its_own_value_and_forgets_the_parents(monkeypatch):
    values = PerProcess(object)
    parents = values.get()
    assert values.get() is parents
    monkeypatch.setattr("tcaptcha_middleware.scoped.os.getpid", lambda: -1)
    assert values.get() is not parents
    monkeypatch.undo()
    assert values.take() is None
