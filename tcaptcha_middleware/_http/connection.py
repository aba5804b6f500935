"""Connections to one origin: resolve its name, race its addresses, pass a proxy, speak TLS.

Sockets never block here; steps yield what they wait for. Errors are those of the network.

https://www.rfc-editor.org/rfc/rfc8305
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from tcaptcha_middleware._http.codec import ResponseReader
from tcaptcha_middleware.scoped import PerProcess
from tcaptcha_middleware.threadpool import SingleFlight
from tcaptcha_middleware.waiting import FOREVER, Done, Ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import MemoryBIO, SSLContext, SSLObject

    from tcaptcha_middleware._http.codec import Answer
    from tcaptcha_middleware.waiting import Steps

    LoadContext = Callable[[], SSLContext]  # run in a thread, because it reads files
    Address = tuple[int, Any]  # the family, and where to connect to
    Proxy = tuple[str, int, str]  # host, port, and further fields for CONNECT

_PIECE = 65536
HEAD_START = 0.25  # seconds that an address is tried alone (RFC 8305, section 8)
FRESH = 60.0  # seconds that addresses are used without asking again
STALE = 1.0  # seconds to wait for a name, and between attempts, if there are older addresses


class ProxyError(Exception):
    """The proxy refused to connect us; the argument is its HTTP status."""


@dataclass(slots=True, eq=False)
class Progress:
    """How far a call has come, which decides what an error means."""

    stage: Literal["resolve", "connect", "proxy", "exchange"] = "resolve"
    connected: bool = False  # whether a connection was accepted
    sent: bool = False  # whether a byte of the request may have left this machine
    answering: bool = False  # whether a byte of the response has arrived
    resent: bool = False


class Resolver:
    """Resolves one name in a daemon thread, because no look-up can be ended, with a cache."""

    def __init__(
        self, host: str, port: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._host, self._port, self._clock = host, port, clock
        self._known: list[Address] = []
        self._fresh_until = float("-inf")
        self._look_up = SingleFlight("tcaptcha-resolver", self._resolve)

    def addresses(self) -> Steps[list[Address]]:
        """Return the addresses, or the last known ones if the name cannot be resolved now."""
        if self._clock() >= self._fresh_until:
            look_up = self._look_up.start()
            is_done = yield Done(look_up, STALE if self._known else FOREVER)
            if not self._known:
                look_up.result()  # raises what went wrong
            elif not is_done or look_up.exception():
                self._fresh_until = self._clock() + STALE
        return self._known

    def _resolve(self) -> None:
        if self._clock() < self._fresh_until:
            return  # another look-up ended since this one was asked for
        infos = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = [(info[0], info[4]) for info in infos]
        # Alternate between IPv6 and IPv4 (RFC 8305, section 4).
        first = [each for each in addresses if each[0] == addresses[0][0]]
        others = [each for each in addresses if each[0] != addresses[0][0]]
        self._known = [each for pair in zip_longest(first, others) for each in pair if each]
        self._fresh_until = self._clock() + FRESH


def race(addresses: list[Address]) -> Steps[socket.socket]:
    """Connect to the first address that accepts; try the next if one fails or is slow."""
    waiting, connecting = deque(addresses), list[socket.socket]()
    failure, refused = OSError("the name resolves to nothing"), False
    try:
        while waiting or connecting:
            if waiting:
                try:
                    connecting.append(_begin(*waiting.popleft()))
                except OSError as error:
                    # A refusal says more than, for example, a lack of IPv6 on this machine.
                    failure = failure if refused else error
                    continue
            yield Ready(connecting, writing=True, seconds=HEAD_START if waiting else FOREVER)
            for sock in connecting.copy():
                if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    failure, refused = OSError(code, os.strerror(code)), True
                    connecting.remove(sock)
                    sock.close()
                    continue
                with suppress(OSError):  # not yet connected
                    sock.getpeername()
                    connecting.remove(sock)
                    return sock
        raise failure
    finally:
        for sock in connecting:
            sock.close()


def _begin(family: int, target: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)  # noqa: FBT003
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            sock.connect(target)
    except OSError:
        sock.close()
        raise
    return sock


class Connection:
    """A connected socket, new or kept in a pool, which sets when it `expires`."""

    def __init__(self, sock: socket.socket) -> None:
        self.born = self.expires = time.monotonic()
        self._socket = sock
        self._tls: SSLObject | None = None
        self._incoming: MemoryBIO
        self._outgoing: MemoryBIO

    def start_tls(self, context: SSLContext, host: str) -> Steps[None]:
        """Shake hands; ssl.SSLCertVerificationError if the certificate is not trusted."""
        from ssl import MemoryBIO  # late, as in `_call_tls`

        self._incoming, self._outgoing = MemoryBIO(), MemoryBIO()
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        yield from self._call_tls(tls.do_handshake)
        self._tls = tls

    def exchange(
        self, request: bytes, progress: Progress, patience: float, *, has_body: bool = True
    ) -> Steps[Answer]:
        """Send `request` and read the response; wait `patience` seconds for its first byte."""
        tls, reader = self._tls, ResponseReader(has_body=has_body)
        try:
            send = self._send if tls is None else partial(self._call_tls, tls.write)
            read = self._receive if tls is None else partial(self._call_tls, tls.read, _PIECE)
            # The other end may respond and close early; ignore the write error and read.
            with suppress(OSError):
                yield from send(request)
            while True:
                data = yield from read(seconds=patience)
                if not data and not progress.answering:
                    raise ConnectionResetError("the connection ended without a response")
                progress.answering, patience = True, FOREVER
                if answer := reader.feed(data):
                    return answer
        except BaseException:
            self.close()
            raise

    def is_quiet(self) -> bool:
        """Return whether there is nothing to read: no bytes, and no end."""
        if self._tls is not None and (self._incoming.pending or self._tls.pending()):
            return False
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def close(self) -> None:
        """Close it, without waiting."""
        self._socket.close()

    def _send(self, data: bytes) -> Steps[None]:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._socket.send(rest) :]
            except BlockingIOError:
                yield Ready([self._socket], writing=True)

    def _receive(self, seconds: float) -> Steps[bytes]:
        while True:
            if not (yield Ready([self._socket], seconds=seconds)):
                raise TimeoutError("nothing came in time")
            with suppress(BlockingIOError):  # spurious readiness, see select(2)
                return self._socket.recv(_PIECE)

    def _call_tls(
        self, call: Callable[..., Any], *args: Any, seconds: float = FOREVER
    ) -> Steps[Any]:
        import ssl  # late, because it takes a twentieth of start-up

        while True:
            try:
                result = call(*args)
            except ssl.SSLWantReadError:
                yield from self._send(self._outgoing.read())
                if data := (yield from self._receive(seconds)):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                if self._tls is None:
                    raise
                return b""  # servers close without a TLS farewell; the reader knows the length
            else:
                yield from self._send(self._outgoing.read())
                return result


class Connector:
    """Opens connections to one origin, with TLS if there is a `context` to load."""

    def __init__(self, origin: str, context: LoadContext, proxy: Proxy | None) -> None:
        parts = urlsplit(origin)
        self._tls = parts.scheme == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        name = f"[{self._host}]" if ":" in self._host else self._host
        self._target = f"{name}:{self._port} HTTP/1.1\r\nHost: {name}:{self._port}\r\n"
        self._proxy = proxy
        host, port = (self._host, self._port) if proxy is None else proxy[:2]
        self._resolver = PerProcess(partial(Resolver, host, port))
        self._context: SSLContext | None = None
        self._loading = PerProcess(partial(SingleFlight, "tcaptcha-tls", context))

    def connect(self, progress: Progress) -> Steps[Connection]:
        """Open a connection."""
        progress.stage, progress.connected = "resolve", False
        loading = self._loading.get().start() if self._tls and self._context is None else None
        addresses = yield from self._resolver.get().addresses()
        if loading is not None:
            yield Done(loading)
            self._context = loading.result()
        progress.stage = "connect" if self._proxy is None else "proxy"
        connection = Connection((yield from race(addresses)))
        progress.connected = True
        try:
            if self._proxy is not None:
                request = f"CONNECT {self._target}{self._proxy[2]}\r\n".encode()
                asking = connection.exchange(request, Progress(), FOREVER, has_body=False)
                if (status := (yield from asking).status) not in range(200, 300):
                    raise ProxyError(status)
            progress.stage = "exchange"
            if self._context is not None:
                yield from connection.start_tls(self._context, self._host)
        except BaseException:
            connection.close()
            raise
        return connection
