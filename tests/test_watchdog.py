"""The read watchdog: a deadline for a blocking read of a connection."""

from __future__ import annotations

import gc
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import pytest

from tcaptcha_middleware import wsgi_body
from tcaptcha_middleware.errors import ThrottledError
from tcaptcha_middleware.wsgi_body import Body, ReadDeadline, ReadTimeoutError, Watchdog, cut

SOON = 0.05
PATIENCE = 20.0


def bounded(*connections):
    """Limit every wait in a test."""
    for connection in connections:
        connection.settimeout(PATIENCE)
    return connections


@pytest.fixture
def pair():
    """A connection's two ends over TCP: ours, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        ours = server.accept()[0]
    with ours, client:
        yield bounded(ours, client)


def read_all(connection, size=1024):
    """Read as servers do: until there is as much as was asked for, or the end."""
    read = b""
    while len(read) < size and (piece := connection.recv(size - len(read))):
        read += piece
    return read


def read_and_raise(connection, error):
    read_all(connection)
    raise error


def read_until_deadline(connection, seconds=SOON):
    with pytest.raises(ReadTimeoutError), ReadDeadline(connection, seconds):
        read_all(connection)


def test_a_shortage_of_threads_is_not_taken_for_a_fault_of_the_client(pair, monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    ours, _ = pair
    watchdog = Watchdog()
    monkeypatch.setattr(wsgi_body, "_watchdogs", SimpleNamespace(get=lambda: watchdog))
    monkeypatch.setattr(threading.Thread, "start", start)
    with ours.makefile("rb") as stream:
        environ = {"wsgi.input": stream, "gunicorn.socket": ours, "CONTENT_LENGTH": "8"}
        with pytest.raises(ThrottledError, match="no thread can be started"):
            Body(environ).read(PATIENCE, may_disconnect=True)


def is_open(ours):
    """Return if the connection is still open; on Linux a shut socket can still be read."""
    ours.setblocking(False)
    try:
        return ours.recv(1) is None
    except BlockingIOError:
        return True


def test_a_client_that_stalls_is_disconnected_and_can_still_get_a_response(pair):
    ours, client = pair
    read_until_deadline(ours)
    ours.sendall(b"too slow")
    assert client.recv(100) == b"too slow"


def test_a_client_that_sends_a_byte_now_and_then_is_disconnected(pair):
    ours, client = pair
    read = threading.Event()

    def drip():
        with suppress(OSError):
            while not read.wait(0.01):
                client.sendall(b"t")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        read_until_deadline(ours, 0.2)
    finally:
        read.set()
        dripping.join()


def test_a_connection_is_left_alone_once_the_read_is_over(pair):
    ours, client = pair
    client.sendall(b"in time")
    with ReadDeadline(ours, SOON):
        assert ours.recv(100) == b"in time"
    # The thread has passed that deadline when it has disconnected a later client.
    for first, second in [bounded(*socket.socketpair())]:
        with first, second:
            read_until_deadline(first, 2 * SOON)
    assert is_open(ours)


def test_an_earlier_deadline_is_met_while_a_later_one_runs(pair):
    ours, _ = pair
    first, second = bounded(*socket.socketpair())
    # Longer than the longest timeout of a lock.
    with first, second, ReadDeadline(ours, 1e12):
        read_until_deadline(first)
    assert is_open(ours)


def test_a_read_that_fails_in_time_raises_its_own_error(pair):
    with pytest.raises(ZeroDivisionError), ReadDeadline(pair[0], PATIENCE):
        raise ZeroDivisionError


def test_a_read_that_fails_at_the_deadline_raises_a_timeout(pair):
    ours, _ = pair
    with pytest.raises(ReadTimeoutError) as caught, ReadDeadline(ours, SOON):
        read_and_raise(ours, ssl.SSLEOFError())
    assert isinstance(caught.value.__cause__, ssl.SSLEOFError)


def test_a_worker_that_is_stopped_during_a_read_stops(pair):
    ours, _ = pair
    with pytest.raises(SystemExit), ReadDeadline(ours, SOON):
        read_and_raise(ours, SystemExit())


def test_a_closed_connection_does_not_affect_others(pair):
    ours, _ = pair
    gone, second = bounded(*socket.socketpair())
    gone.close()
    second.close()
    with pytest.raises(ReadTimeoutError), ReadDeadline(gone, SOON):
        read_until_deadline(ours, 4 * SOON)
    cut(gone)


def test_a_read_that_continues_is_disconnected_once(pair):
    ended = []

    class Counted(ReadDeadline):
        def end_read(self):
            ended.append(self)
            super().end_read()

    with pytest.raises(ReadTimeoutError), Counted(pair[0], SOON):
        time.sleep(4 * SOON)
    assert len(ended) == 1


def test_a_disconnected_tls_connection_stays_encrypted():
    class WithKeys(socket.socket):
        def shutdown(self, how):
            raise AssertionError("a response would be sent unencrypted")

    first, second = bounded(*socket.socketpair())
    with WithKeys(fileno=first.detach()) as ours, second:
        bounded(ours)
        read_until_deadline(ours)
        cut(ours)
        assert second.recv(1) == b""


def test_a_connection_that_cannot_be_shut_does_not_affect_other_deadlines(caplog):
    with pytest.raises(ReadTimeoutError), ReadDeadline(object(), SOON):
        time.sleep(4 * SOON)
    cut_off = [record.message for record in caplog.records]
    assert ["cannot be shut" in message for message in cut_off] == [True]
    time_out_once()


def test_a_connection_whose_read_is_over_is_not_referenced():
    ours, client = bounded(*socket.socketpair())
    with client:
        client.sendall(b"t")
        with ReadDeadline(ours, PATIENCE):
            ours.recv(1)
        reference = weakref.ref(ours)
        ours.close()
        del ours
        gc.collect()
        assert reference() is None


def time_out_once(_=None):
    first, second = bounded(*socket.socketpair())
    with first, second:
        read_until_deadline(first)


def test_one_thread_enforces_all_deadlines():
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(time_out_once, range(40)))
    assert time.monotonic() - began < PATIENCE
    threads = [thread for thread in threading.enumerate() if thread.name == "tcaptcha reads"]
    assert [thread.daemon for thread in threads] == [True]


FORKING = """
import os, socket
from tcaptcha_middleware.wsgi_body import ReadDeadline, ReadTimeoutError

def time_out():
    one, other = socket.socketpair()
    one.settimeout(20)
    try:
        with ReadDeadline(one, 0.05):
            one.recv(1)
    except ReadTimeoutError:
        os.write(1, b"timed out ")

time_out()
forked = os.fork()
time_out()
if forked:
    os.waitpid(forked, 0)
"""


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="nothing forks here")
def test_a_fork_enforces_deadlines_too():
    run = [sys.executable, "-W", "ignore", "-c", FORKING]
    process = subprocess.run(run, capture_output=True, check=True, text=True, timeout=60)
    assert process.stdout.split() == ["timed", "out"] * 3


def test_bytes_after_the_deadline_are_never_read(pair):
    ours, client = pair
    read_until_deadline(ours)
    client.sendall(b"GET /admin HTTP/1.1\r\n\r\n")
    time.sleep(SOON)
    cut(ours)
    with suppress(ConnectionError):
        assert ours.recv(100) == b""
    with suppress(ConnectionError):
        client.sendall(b"GET /admin HTTP/1.1\r\n\r\n")
        time.sleep(SOON)
        assert ours.recv(100) == b""
