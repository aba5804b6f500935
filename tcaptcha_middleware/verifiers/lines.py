"""A connection to Tencent, in both colours: httpcore's HTTP/1.1 over a bounded socket.

https://www.encode.io/httpcore/connections/
"""

from __future__ import annotations

import ssl
from functools import cache
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread
import certifi
import httpcore
from anyio.streams.tls import TLSStream

from tcaptcha_middleware.deadlines import left
from tcaptcha_middleware.errors import MisconfiguredError
from tcaptcha_middleware.scoped import PerLoop
from tcaptcha_middleware.tencent.api import MAX_ANSWER
from tcaptcha_middleware.verifiers.dialing import adial, dial
from tcaptcha_middleware.verifiers.streams import AsyncStream, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import ByteStream, SocketStream

Answer = tuple[int, bytes]
"""An HTTP status, and the body."""

KEPT = 60.0
"""How long one may wait for its next exchange, in seconds."""

# One at a time, so that a burst of first connections reads the authorities once.
_reading = PerLoop(lambda: anyio.CapacityLimiter(1))


@cache
def tls() -> ssl.SSLContext:
    """Return how TLS is spoken: with certifi's authorities, whatever the environment says.

    Raises:
        MisconfiguredError: They are not there. Nobody but the operator can mend that.
    """
    try:
        context = ssl.create_default_context(cafile=certifi.where())
    except FileNotFoundError as error:
        raise MisconfiguredError("certifi has no authorities: install it anew") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def post(url: httpcore.URL, headers: Mapping[str, str], body: bytes) -> httpcore.Request:
    """Return a POST of `body`."""
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    sent.append((b"Content-Length", b"%d" % len(body)))
    return httpcore.Request(b"POST", url, headers=sent, content=body)


class Line(httpcore.HTTP11Connection):
    """A blocking connection.

    Args:
        origin: Where it leads.
        stream: The open socket.
    """

    def __init__(self, origin: httpcore.Origin, stream: httpcore.NetworkStream) -> None:
        self._bounded = Stream(stream)
        super().__init__(origin, self._bounded, KEPT)

    @classmethod
    def open(cls, origin: httpcore.Origin, deadline: float) -> Self:
        """Connect before `deadline`."""
        host = origin.host.decode()
        stream = dial(host, origin.port, deadline)
        if origin.scheme == b"http":
            return cls(origin, stream)
        return cls(origin, _secured(stream, host, deadline))

    def exchange(self, request: httpcore.Request, deadline: float) -> Answer:
        """Send `request` and read its answer whole, before `deadline`."""
        self._bounded.end_by(deadline)
        body = bytearray()
        try:
            answer = self.handle_request(request)
            for piece in answer.iter_stream():
                body += piece
                if len(body) > MAX_ANSWER:
                    self._bounded.refuse()
            self._bounded.check()
            answer.close()
            if _has_more(self):
                self.close()
        except BaseException:
            self.close()
            raise
        return answer.status, bytes(body)


class AsyncLine(httpcore.AsyncHTTP11Connection):
    """Same as `Line`, but awaited, on asyncio and trio."""

    def __init__(self, origin: httpcore.Origin, stream: ByteStream) -> None:
        self._bounded = AsyncStream(stream)
        super().__init__(origin, self._bounded, KEPT)

    @classmethod
    async def open(cls, origin: httpcore.Origin) -> Self:
        """Connect."""
        host = origin.host.decode()
        if origin.scheme == b"http":
            return cls(origin, await adial(host, origin.port))
        # Reading the authorities takes longer than a check, the first time. In a thread of
        # our own, for the reason that `workers.Aside` gives.
        context = await anyio.to_thread.run_sync(tls, limiter=_reading.get())
        return cls(origin, await _asecured(await adial(host, origin.port), host, context))

    async def exchange(self, request: httpcore.Request) -> Answer:
        """Send `request` and read its answer whole."""
        body = bytearray()
        try:
            answer = await self.handle_async_request(request)
            async for piece in answer.aiter_stream():
                body += piece
                if len(body) > MAX_ANSWER:
                    self._bounded.refuse()
            self._bounded.check()
            await answer.aclose()
            if _has_more(self):
                await self.aclose()
        except BaseException:
            # httpcore closes where it fails, but not where it is cancelled while it ends.
            await closed(self)
            raise
        return answer.status, bytes(body)


def _secured(
    stream: httpcore.NetworkStream, host: str, deadline: float
) -> httpcore.NetworkStream:
    try:
        return stream.start_tls(tls(), host, left(deadline))
    except BaseException:
        stream.close()
        raise


async def _asecured(stream: SocketStream, host: str, context: ssl.SSLContext) -> TLSStream:
    try:
        return await TLSStream.wrap(
            stream, hostname=host, ssl_context=context, standard_compatible=False
        )
    except BaseException:
        await anyio.aclose_forcefully(stream)
        raise


def _has_more(line: Line | AsyncLine) -> bool:
    """Tell whether more than the answer came, which would be the next ticket's answer."""
    return bool(line._h11_state.trailing_data[0])  # noqa: SLF001  httpcore tells nobody


async def closed(line: AsyncLine) -> None:
    """Close it, even while cancelled."""
    with anyio.CancelScope(shield=True):
        await line.aclose()
