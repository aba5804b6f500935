"""A request's body under WSGI: read in search of the pair, then put back before the rest.

A read that blocks has a deadline. A socket timeout is not enough: servers read until they have
as much as was asked for, so a byte now and then keeps them reading. At the deadline a thread
shuts down the connection for reading: the read ends as if the client had gone, and a response
can still be sent. (If gunicorn's sync and threaded workers terminate TLS themselves, the client
sees the connection end instead, because OpenSSL accepts no end without a close_notify.)

https://peps.python.org/pep-3333/#input-and-error-streams
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import RequestBodyError, ThrottledError
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.scoped import PerProcess
from tcaptcha_middleware.threadpool import start_daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import IO

Environ = dict[str, Any]

# Most inputs block until they have as much as was asked for, so pieces are small: a form that
# begins with its ticket is not read to its end, and the deadline is checked between pieces.
# gunicorn reads no less at once, and a pair is shorter.
_PIECE = 1024
# Longer ones are not a length, and int() raises for thousands of digits.
_DIGITS = 18
# Where servers hand over the connection that their input reads from.
_CONNECTIONS = ("gunicorn.socket", "werkzeug.socket")
# The longest sleep of the thread, in seconds; an earlier deadline wakes it.
_NAP = 3600.0
_DISCARDED = 64 * 1024


class Body:
    """The body of one request.

    Args:
        environ: The request's environ.

    Attributes:
        kept: The pieces that were read.
    """

    def __init__(self, environ: Environ) -> None:
        self._environ = environ
        self.kept: list[bytes] = []
        self._is_begun = self._timed_out = False

    def _begin(self) -> None:
        environ = self._environ
        self._is_begun = True
        self._input = environ["wsgi.input"]
        # read1 returns what has arrived; few inputs have it.
        self._read: Callable[[int], bytes] = getattr(self._input, "read1", self._input.read)
        # What the input reads from, if it is this request's alone. In HTTP/2 it is shared with
        # other requests, and maybe with other visitors behind a proxy. A list of exclusions,
        # because some servers pass on any version that a client wrote.
        self._connection: socket.socket | None = None
        if not environ.get("SERVER_PROTOCOL", "").startswith(("HTTP/2", "HTTP/3")):
            for name in _CONNECTIONS:
                if isinstance(environ.get(name), socket.socket):
                    self._connection = environ[name]
                    break
        text = environ.get("CONTENT_LENGTH") or ""
        # Without a length a server may block at the body's end, unless it declares otherwise:
        # https://gist.github.com/mitsuhiko/5721547
        is_terminated = environ.get("wsgi.input_terminated") and not text
        self._left: int | None = None if is_terminated else 0
        if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
            self._left = int(text)
        self._start: int | None = None
        try:
            if self._left != 0 and self._input.seekable():
                self._start = self._input.tell()
        except Exception:  # it cannot seek, as in most servers
            self._start = None

    def read(self, timeout: float, *, may_disconnect: bool) -> tuple[bytes, bool]:
        """Return the next piece, and whether there is more.

        Args:
            timeout: How long the client may take, in seconds; enforced only if the server
                hands over its connection.
            may_disconnect: Whether the client may be disconnected after that.

        Raises:
            ReadTimeoutError: If the client takes longer.
            RequestBodyError: If the body breaks off or is shorter than its `Content-Length`.
            ThrottledError: If no thread can be started that keeps the deadline.
        """
        if not self._is_begun:
            self._begin()
        if self._left == 0:
            return b"", False
        size = _PIECE if self._left is None else min(_PIECE, self._left)
        try:
            if self._connection is None or not may_disconnect:
                piece = self._read(size)
            else:
                with ReadDeadline(self._connection, timeout):
                    piece = self._read(size)
        except ReadTimeoutError:
            self._timed_out = True
            raise
        except ThrottledError:
            raise  # no thread can be started, which is not the client's fault
        except Exception as error:
            # The client has caused it: servers parse chunks and trailers here, and raise
            # exceptions of many types for invalid ones.
            raise RequestBodyError("the client went away, or broke the framing") from error
        self.kept.append(piece)
        if self._left is None:
            self._left = None if piece else 0
            return piece, bool(piece)
        if not piece:
            raise RequestBodyError("the body is shorter than its Content-Length")
        self._left -= len(piece)
        return piece, self._left > 0

    def replay(self, environ: Environ) -> None:
        """Give the application an input that begins with what was read.

        An input that can seek is put back instead, because it may be sent again: Flask's test
        client does so with its own stream if a redirect is a 307 or 308.
        """
        if not self.kept:
            return
        position = None
        try:
            if self._start is not None:
                position = self._input.seek(self._start)
        except Exception:  # it cannot seek after all
            position = None
        if position is not None and position == self._start:
            return
        rest = BytesIO() if self._left == 0 else self._input
        environ["wsgi.input"] = _Input(BytesIO(b"".join(self.kept)), rest)

    def behind(self, answer: Iterable[bytes]) -> Iterable[bytes]:
        """Return a refusal that closes the connection after it, if reading was ended."""
        if not self._timed_out or self._connection is None:
            return answer
        return ClosingIterator(answer, self._connection)


class ClosingIterator:
    """A response after which its connection is closed.

    Args:
        answer: The response's body.
        connection: The connection that it is sent on.
    """

    def __init__(self, answer: Iterable[bytes], connection: socket.socket) -> None:
        self._answer = answer
        self._connection = connection

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the body."""
        return iter(self._answer)

    def close(self) -> None:
        """Close the response, as PEP 3333 requires, and the connection."""
        try:
            if hasattr(self._answer, "close"):
                self._answer.close()
        finally:
            cut(self._connection)


class _Input:
    """A `wsgi.input` in two parts, read as one (PEP 3333, "Input and Error Streams")."""

    def __init__(self, head: BytesIO, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int | None = -1) -> bytes:
        head = self._head.read(size)
        if size is None or size < 0:
            return head + self._rest.read()
        return head if len(head) == size else head + self._rest.read(size - len(head))

    def readline(self, size: int | None = -1) -> bytes:
        head = self._head.readline(size)
        if head.endswith(b"\n") or len(head) == size:
            return head
        if size is None or size < 0:
            return head + self._rest.readline()
        return head + self._rest.readline(size - len(head))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        lines, length = list[bytes](), 0
        for line in self:
            lines.append(line)
            length += len(line)
            if hint and 0 < hint <= length:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")


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
                start_daemon(self._run, "tcaptcha reads")
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
                for read in [read for read in self._reading if read.deadline <= now]:
                    self._reading.remove(read)
                    read.end_read()
                deadlines = [read.deadline for read in self._reading]
                self._wakes_at = min([now + _NAP, *deadlines])
                self._changed.wait(self._wakes_at - now)


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
        while socket.socket.recv(connection, _DISCARDED):
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
