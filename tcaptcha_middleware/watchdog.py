"""A deadline for a read that blocks in a connection, and a way to close that connection.

A socket timeout is not enough: servers read until they have as much as was asked for, so a byte
now and then keeps them reading. At the deadline a thread shuts down the connection for reading:
the read ends as if the client had gone, and a response can still be sent. (If gunicorn's sync
and threaded workers terminate TLS themselves, the client sees the connection end instead,
because OpenSSL accepts no end without a close_notify.)
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tcaptcha_middleware.operations import log
from tcaptcha_middleware.scoped import PerProcess

if TYPE_CHECKING:
    from types import TracebackType

# The longest sleep of the thread, in seconds; an earlier deadline wakes it.
_NAP = 3600.0
_PIECE = 64 * 1024


class ReadTimeoutError(TimeoutError):
    """The deadline is over, and nothing more is read from the connection."""


class ReadDeadline:
    """End a read that takes too long: `with ReadDeadline(connection, seconds):`.

    Args:
        connection: The connection that is read. It must carry one request at a time.
        seconds: How long the read may take.

    Raises:
        ReadTimeoutError: If the read takes longer, even if it succeeds.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.deadline: float = time.monotonic() + seconds
        self._connection = connection
        self._watchdog = _watchdogs.get()
        self._ended = False

    def __enter__(self) -> None:
        """Start the time."""
        self._watchdog.begin(self)

    def __exit__(
        self, _: object, error: BaseException | None, __: TracebackType | None
    ) -> None:
        """Stop the time."""
        self._watchdog.end(self)
        # A server stops its worker with other exceptions, which must not be replaced.
        if self._ended and (error is None or isinstance(error, Exception)):
            raise ReadTimeoutError("the client took too long") from error

    def end_read(self) -> None:
        """Shut the connection down for reading, which ends the read."""
        self._ended = True
        _shut(self._connection, socket.SHUT_RD)


class Watchdog:
    """The reads in progress, and the thread that ends those past their deadline."""

    def __init__(self) -> None:
        # Held while a connection is shut down, and the read cannot end meanwhile. So it is
        # never the connection of another request, nor a descriptor that is in use again.
        self._changed = threading.Condition()
        self._reading: set[ReadDeadline] = set()
        self._runs = False
        self._wakes_at = 0.0

    def begin(self, read: ReadDeadline) -> None:
        """End the read at its deadline."""
        with self._changed:
            if not self._runs:
                threading.Thread(target=self._run, name="tcaptcha reads", daemon=True).start()
                self._runs = True
            self._reading.add(read)
            # Later deadlines are seen when it wakes, so few reads have to wake it.
            if read.deadline < self._wakes_at:
                self._wakes_at = read.deadline
                self._changed.notify()

    def end(self, read: ReadDeadline) -> None:
        """Forget a read that has ended."""
        with self._changed:
            self._reading.discard(read)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                self._end_late(now)
                deadlines = [read.deadline for read in self._reading]
                self._wakes_at = min([now + _NAP, *deadlines])
                self._changed.wait(self._wakes_at - now)

    def _end_late(self, now: float) -> None:
        late = {read for read in self._reading if read.deadline <= now}
        self._reading -= late
        for read in late:
            read.end_read()


_watchdogs = PerProcess(Watchdog)


def cut(connection: socket.socket) -> None:
    """Shut a connection down for reading and writing, and discard what has arrived.

    Linux still returns data that arrives after a shutdown for reading. A server that considers
    the body as ended would read it as the next request, which anybody could smuggle in.

    Args:
        connection: A connection whose read was ended.
    """
    _shut(connection, socket.SHUT_RDWR)
    with suppress(OSError):
        while socket.socket.recv(connection, _PIECE):
            pass


def _shut(connection: socket.socket, how: int) -> None:
    try:
        # Not its own method: that of a TLS socket drops its keys, and the response would be
        # sent in the clear.
        socket.socket.shutdown(connection, how)
    except OSError:
        return  # the client has gone
    except Exception as error:
        # Sockets may be patched; an error here must not end the thread for all others.
        log.connection_not_cut(error)
