"""Sockets under httpcore that hold one exchange to its bounds, in both colours.

httpcore limits single reads, so that an answer that comes byte by byte has no end. Here a
blocking exchange has one deadline, and an answer that is too long can be cut off.
Head and body leave in one piece: a second write is a second packet, and wakes everybody twice.

https://www.encode.io/httpcore/network-backends/
"""

from __future__ import annotations

import select
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import httpcore
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

from tcaptcha_middleware.deadlines import left
from tcaptcha_middleware.errors import VerifierError

if TYPE_CHECKING:
    from anyio.abc import ByteStream


class _Exchange:
    """What is still to be sent, and whether any more may be read."""

    _unsent = b""
    _is_over = False

    def refuse(self) -> None:
        """Let the next read fail: to raise between two would leave httpcore's half done."""
        self._is_over = True

    def _gathered(self) -> bytes:
        unsent, self._unsent = self._unsent, b""
        return unsent

    def check(self) -> None:
        """Fail if it was refused."""
        if self._is_over:
            raise too_long()


class Stream(_Exchange, httpcore.NetworkStream):
    """A blocking socket, whose every operation ends at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._deadline = 0.0

    def end_by(self, deadline: float) -> None:
        """Set when the next exchange has to be over, by `time.monotonic`."""
        self._deadline = deadline

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Keep `buffer` until an answer is waited for."""
        self._unsent += buffer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Send what is to be sent, and wait for some of the answer."""
        if unsent := self._gathered():
            # Who hangs up before reading it all may have answered; the read will tell.
            with suppress(httpcore.WriteError):
                self._stream.write(unsent, left(self._deadline))
        self.check()
        return self._stream.read(max_bytes, left(self._deadline))

    def close(self) -> None:
        """Close it."""
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        """Return what the socket knows."""
        return self._stream.get_extra_info(info)


class AsyncStream(_Exchange, httpcore.AsyncNetworkStream):
    """The same, but awaited; whoever awaits it keeps the deadline, by cancelling.

    Not httpcore's own, which opens a cancel scope for each operation beside.
    """

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610  this is no Django
        self._tls = stream.extra(TLSAttribute.ssl_object, None)  # noqa: S610

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Keep `buffer` until an answer is waited for."""
        self._unsent += buffer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Send what is to be sent, and wait for some of the answer."""
        if unsent := self._gathered():
            with suppress(anyio.BrokenResourceError):
                await self._stream.send(unsent)
        self.check()
        try:
            return await self._stream.receive(max_bytes)
        except anyio.EndOfStream:
            return b""

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Tell whether there is something to read; nobody asks for more."""
        return self._is_readable() if info == "is_readable" else None

    def _is_readable(self) -> bool:
        return _is_readable(self._socket.fileno()) or _holds_more(self._tls)


def _is_readable(file: int) -> bool:
    if file < 0:  # closed, so that a read would end at once
        return True
    if not hasattr(select, "poll"):  # on Windows
        return bool(select.select([file], [], [], 0)[0])
    # Not select, which elsewhere knows no file beyond the first 1024.
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))


def _holds_more(tls: ssl.SSLObject | None) -> bool:
    """Tell whether something was taken from the socket that nobody has read."""
    if tls is None:
        return False
    try:
        tls.read(1)  # Taken from one that is not used again.
    except ssl.SSLError as error:
        return not isinstance(error, ssl.SSLWantReadError)
    return True


def too_long() -> VerifierError:
    """Return what an answer is refused with that is longer than any of Tencent's."""
    return VerifierError("Tencent's answer is too long")
