"""A deadline for a read that blocks in a connection."""

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

import pytest

from tcaptcha_middleware.wsgi_body import ReadDeadline, ReadTimeoutError, cut

SOON = 0.05
PATIENCE = 20.0


def bounded(*connections):
    """Let nothing in a test wait for ever."""
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


def hung_up(connection, seconds=SOON):
    with pytest.raises(ReadTimeoutError), ReadDeadline(connection, seconds):
        read_all(connection)


def is_open(ours):
    """Tell whether there is still something to wait for; Linux reads on behind a hangup."""
    ours.setblocking(False)
    try:
        return ours.recv(1) is None
    except BlockingIOError:
        return True


def test_a_client_that_stalls_is_hung_up_on_and_can_still_be_answered(pair):
    ours, client = pair
    hung_up(ours)
    ours.sendall(b"too slow")
    assert client.recv(100) == b"too slow"


def test_a_client_that_sends_a_byte_now_and_then_is_hung_up_on(pair):
    ours, client = pair
    read = threading.Event()

    def drip():
        with suppress(OSError):
            while not read.wait(0.01):
                client.sendall(b"t")

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        hung_up(ours, 0.2)
    finally:
        read.set()
        dripping.join()


def test_a_connection_is_left_alone_once_the_read_is_over(pair):
    ours, client = pair
    client.sendall(b"in time")
    with ReadDeadline(ours, SOON):
        assert ours.recv(100) == b"in time"
    # The thread has been past that deadline when it has hung up on somebody later.
    for one, other in [bounded(*socket.socketpair())]:
        with one, other:
            hung_up(one, 2 * SOON)
    assert is_open(ours)


def test_the_sooner_deadline_is_kept_while_a_later_one_runs(pair):
    ours, _ = pair
    one, other = bounded(*socket.socketpair())
    # Beyond what a lock can be waited for.
    with one, other, ReadDeadline(ours, 1e12):
        hung_up(one)
    assert is_open(ours)


def test_a_read_that_fails_in_time_fails_as_it_would(pair):
    with pytest.raises(ZeroDivisionError), ReadDeadline(pair[0], PATIENCE):
        raise ZeroDivisionError


def test_a_read_that_fails_because_it_was_hung_up_on_says_so(pair):
    ours, _ = pair
    with pytest.raises(ReadTimeoutError) as told, ReadDeadline(ours, SOON):
        read_and_raise(ours, ssl.SSLEOFError())
    assert isinstance(told.value.__cause__, ssl.SSLEOFError)


def test_a_worker_that_is_stopped_in_a_read_is_stopped(pair):
    ours, _ = pair
    with pytest.raises(SystemExit), ReadDeadline(ours, SOON):
        read_and_raise(ours, SystemExit())


def test_a_connection_that_is_gone_hurts_nobody_else(pair):
    ours, _ = pair
    gone, other = bounded(*socket.socketpair())
    gone.close()
    other.close()
    with pytest.raises(ReadTimeoutError), ReadDeadline(gone, SOON):
        hung_up(ours, 4 * SOON)
    cut(gone)


def test_a_read_that_goes_on_all_the_same_is_hung_up_on_once(pair):
    ended = []

    class Counted(ReadDeadline):
        def end_read(self):
            ended.append(self)
            super().end_read()

    with pytest.raises(ReadTimeoutError), Counted(pair[0], SOON):
        time.sleep(4 * SOON)
    assert len(ended) == 1


def test_tls_keeps_its_keys_when_it_is_hung_up_on():
    class WithKeys(socket.socket):
        def shutdown(self, how):
            raise AssertionError("an answer would go out in the clear")

    one, other = bounded(*socket.socketpair())
    with WithKeys(fileno=one.detach()) as ours, other:
        bounded(ours)
        hung_up(ours)
        cut(ours)
        assert other.recv(1) == b""


def test_a_connection_that_cannot_be_shut_takes_the_deadline_from_no_other(caplog):
    with pytest.raises(ReadTimeoutError), ReadDeadline(object(), SOON):
        time.sleep(4 * SOON)
    cut_off = [record.message for record in caplog.records]
    assert ["cannot be shut" in message for message in cut_off] == [True]
    hang_up_once()


def test_nothing_keeps_a_connection_whose_read_is_over():
    ours, client = bounded(*socket.socketpair())
    with client:
        client.sendall(b"t")
        with ReadDeadline(ours, PATIENCE):
            ours.recv(1)
        told = weakref.ref(ours)
        ours.close()
        del ours
        gc.collect()
        assert told() is None


def hang_up_once(_=None):
    one, other = bounded(*socket.socketpair())
    with one, other:
        hung_up(one)


def test_one_thread_hangs_up_on_everybody():
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(hang_up_once, range(40)))
    assert time.monotonic() - began < PATIENCE
    threads = [one for one in threading.enumerate() if one.name == "tcaptcha reads"]
    assert [one.daemon for one in threads] == [True]


FORKING = """
import os, socket
from tcaptcha_middleware.wsgi_body import ReadDeadline, ReadTimeoutError

def hang_up():
    one, other = socket.socketpair()
    one.settimeout(20)
    try:
        with ReadDeadline(one, 0.05):
            one.recv(1)
    except ReadTimeoutError:
        os.write(1, b"hung up ")

hang_up()
forked = os.fork()
hang_up()
if forked:
    os.waitpid(forked, 0)
"""


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="nothing forks here")
def test_a_fork_hangs_up_too():
    run = [sys.executable, "-W", "ignore", "-c", FORKING]
    told = subprocess.run(run, capture_output=True, check=True, text=True, timeout=60)
    assert told.stdout.split() == ["hung", "up"] * 3


def test_what_arrives_behind_a_hangup_is_never_read_once_it_is_cut(pair):
    ours, client = pair
    hung_up(ours)
    client.sendall(b"GET /admin HTTP/1.1\r\n\r\n")
    time.sleep(SOON)
    cut(ours)
    with suppress(ConnectionError):
        assert ours.recv(100) == b""
    with suppress(ConnectionError):
        client.sendall(b"GET /admin HTTP/1.1\r\n\r\n")
        time.sleep(SOON)
        assert ours.recv(100) == b""
