"""A deadline for a read that blocks in a connection, and an end for that connection.

A timeout of the socket would not do: servers read on until they have as much as was asked for,
so that a byte now and then would keep them reading. When time is up, a thread of ours shuts the
connection's reading half: the read ends as if the client had gone, and it can be answered yet.
(Not where gunicorn's sync and threaded workers speak TLS themselves: OpenSSL takes no end but
a farewell, so that the client sees the connection end instead.)
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

# The longest that the thread sleeps, in seconds; it has to be woken for whatever is sooner.
_NAP = 3600.0
_PIECE = 64 * 1024


class ReadTimeoutError(TimeoutError):
    """Time was up, and nothing more is read from the connection."""


class ReadDeadline:
    """Hang up on a client that takes too long: `with Hangup(connection, seconds):` to read.

    Args:
        connection: What the read blocks in. It must carry one request at a time.
        seconds: How long the read may take.

    Raises:
        HungUpError: It took longer, however it ended.
    """

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.deadline: float = time.monotonic() + seconds
        self._connection = connection
        self._watch = _watches.get()
        self._happened = False

    def __enter__(self) -> None:
        """Let the time run."""
        self._watch.begin(self)

    def __exit__(
        self, _: object, error: BaseException | None, __: TracebackType | None
    ) -> None:
        """Leave the connection alone from here on."""
        self._watch.end(self)
        # A server that stops its worker raises what is no Exception, and means it.
        if self._happened and (error is None or isinstance(error, Exception)):
            raise ReadTimeoutError("the client took too long") from error

    def happen(self) -> None:
        """Shut the reading half, so that the read ends."""
        self._happened = True
        _shut(self._connection, socket.SHUT_RD)


class Watchdog:
    """Who is reading until when, and the thread that hangs up on those who are late."""

    def __init__(self) -> None:
        # Whoever holds it is in a read that has not ended, so that no connection of another
        # request, nor a descriptor that was given away again, is ever shut.
        self._changed = threading.Condition()
        self._reading: set[ReadDeadline] = set()
        self._runs = False
        self._wakes_at = 0.0

    def begin(self, hangup: ReadDeadline) -> None:
        """Hang up when its time is up."""
        with self._changed:
            if not self._runs:
                threading.Thread(target=self._run, name="tcaptcha hangups", daemon=True).start()
                self._runs = True
            self._reading.add(hangup)
            # Later ones are seen when it wakes; of many reads, hardly one has to wake it.
            if hangup.deadline < self._wakes_at:
                self._wakes_at = hangup.deadline
                self._changed.notify()

    def end(self, hangup: ReadDeadline) -> None:
        """Hang up no more."""
        with self._changed:
            self._reading.discard(hangup)

    def _run(self) -> None:
        with self._changed:
            while True:
                now = time.monotonic()
                self._hang_up(now)
                deadlines = [hangup.deadline for hangup in self._reading]
                self._wakes_at = min([now + _NAP, *deadlines])
                self._changed.wait(self._wakes_at - now)

    def _hang_up(self, now: float) -> None:
        late = {hangup for hangup in self._reading if hangup.deadline <= now}
        self._reading -= late
        for hangup in late:
            hangup.happen()


_watches = PerProcess(Watchdog)


def cut(connection: socket.socket) -> None:
    """End a connection that was hung up on: nothing more is read from it, nor written to it.

    Args:
        connection: The one that was hung up on.

    Linux hands out what arrives behind a shut reading half. A server that takes the body for
    ended would take that for the next request, and anybody could put one there.
    """
    _shut(connection, socket.SHUT_RDWR)
    with suppress(OSError):
        while socket.socket.recv(connection, _PIECE):
            pass


def _shut(connection: socket.socket, how: int) -> None:
    try:
        # Not its own method: that of TLS would forget its keys, and the answer go out in the
        # clear.
        socket.socket.shutdown(connection, how)
    except OSError:
        return  # the client has gone
    except Exception as error:
        # Whoever patched sockets in another way must not take the deadline from all others.
        log.connection_not_cut(error)
