"""A transport for httpx that holds a whole exchange to one deadline, for blocking callers.

httpx limits each read of a socket, so that an answer that comes byte by byte has no end.
Here every operation gets only what is left of the whole. Async callers need none of this:
they are cancelled.

https://www.encode.io/httpcore/network-backends/
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from tcaptcha_middleware.checks import check_positive
from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Iterator

_MAPPED: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (httpcore.PoolTimeout, httpx.PoolTimeout),
    (httpcore.TimeoutException, httpx.ReadTimeout),
    (httpcore.RemoteProtocolError, httpx.RemoteProtocolError),
    (httpcore.NetworkError, httpx.NetworkError),
)


def check_timeout(seconds: float) -> float:
    """Return a deadline that can be kept.

    Raises:
        ConfigurationError: It is no number above 0, or infinite, which no socket takes.
    """
    check_positive("timeout", seconds)
    if not math.isfinite(seconds):
        raise ConfigurationError(f"timeout is {seconds!r}: a check has to end some day")
    return seconds


class _Clock(threading.local):
    """When the exchange that runs in this thread has to be over."""

    deadline = float("inf")

    def left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the whole exchange took too long")
        return left


class _Stream(httpcore.NetworkStream):
    """A socket whose every operation ends at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, clock: _Clock) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._clock.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._clock.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._clock.left())
        return _Stream(stream, self._clock)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens sockets that keep to the deadline."""

    def __init__(self, clock: _Clock) -> None:
        self._backend = httpcore.SyncBackend()
        self._clock = clock

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._backend.connect_tcp(
            host, port, self._clock.left(), local_address, socket_options
        )
        return _Stream(stream, self._clock)


class DeadlineTransport(httpx.BaseTransport):
    """Send each request within `timeout` seconds, from the first byte to the last.

    Args:
        timeout: Seconds for a whole exchange, connecting and waiting included. How long it may
            wait for a connection, each request says itself.
        ssl_context: How TLS is spoken.
        connections: How many connections are kept at the most.
    """

    def __init__(self, timeout: float, ssl_context: ssl.SSLContext, connections: int) -> None:
        self._timeout = timeout
        self._clock = _Clock()
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=60,
            network_backend=_Backend(self._clock),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its answer is read within the same deadline."""
        url = request.url
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions={"timeout": {"pool": request.extensions["timeout"]["pool"]}},
        )
        self._clock.deadline = time.monotonic() + self._timeout
        with _translated():
            answer = self._pool.handle_request(sent)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Answer(answer))

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _Answer(httpx.SyncByteStream):
    """An answer's body as it comes."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _translated():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for foreign, own in _MAPPED:
            if isinstance(error, foreign):
                raise own(str(error)) from error
        raise
