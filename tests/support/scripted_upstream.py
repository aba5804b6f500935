"""An HTTP server in place of Tencent that fails on command, in a separate process.

    python scripted_upstream.py [CERTIFICATE]

Prints its port and the port of its control connection, which takes one JSON object per line: a
method of `Upstream` and its arguments. Each is answered with one line.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import sys
import time
from contextlib import suppress
from itertools import count
from random import Random

_RESET = struct.pack("ii", 1, 0)
_LATENCY = 0.02
_BACKLOG = 4096


def response(body: bytes, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def verdict(code: int) -> bytes:
    fields = {"CaptchaCode": code, "CaptchaMsg": "", "EvilLevel": 0, "RequestId": "r"}
    return response(json.dumps({"Response": fields}).encode())


_ERROR = {"Response": {"Error": {"Code": "InternalError", "Message": "m"}, "RequestId": "r"}}
FAULTS = {
    "502": response(b"<html>", "502 Bad Gateway"),
    "code 26": verdict(26),
    "InternalError": response(json.dumps(_ERROR).encode()),
    "truncated": verdict(1)[:-5],
    "another protocol": b"220 smtp.example ESMTP ready\r\n",
    "a long head": b"HTTP/1.1 200 OK\r\n" + b"X-Filler: 0123456789\r\n" * 9000 + b"\r\n",
}
# Others: "reset", "hang" (no answer), "refused", "blackhole" (no connection).


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._buffer = b""
        self.is_deaf = False
        self.closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport):
        self.transport = transport
        self._upstream.connections.add(self)

    def connection_lost(self, error):
        self._upstream.connections.discard(self)

    def data_received(self, data):
        self._buffer += data
        head, separator, body = self._buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = body[length:]
            self._upstream.called(self, json.loads(body[:length]))

    def reset(self):
        # A zero linger time sends RST instead of FIN.
        sock = self.transport.get_extra_info("socket")
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class Upstream:
    """What the control connection can call.

    Attributes:
        calls: The time, the ticket and the fault of each call that was read.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._random = Random(1)
        self.connections: set[Connection] = set()
        self.calls: list[tuple[float, str, str]] = []
        self._fault, self._share, self._left = "", 1.0, count()
        self._latency, self._capacity, self._idle = _LATENCY, 0.0, 0.0
        self._free_at = 0.0
        self._fillers: list[socket.socket] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with socket.create_server(("127.0.0.1", 0)) as free:
            # Bound by number, because the port has to stay bound while nothing listens.
            self.port = free.getsockname()[1]
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self._listen()

    # -- Commands ------

    def behave(self, fault="", share=1.0, calls=None, seconds=None):
        """Fail from now on, with this share of the calls, for so many calls or seconds."""
        self._end_fault()
        self._fault, self._share = fault, share
        self._left = count() if calls is None else iter(range(calls))
        if fault in ("refused", "blackhole"):
            self._loop.remove_reader(self._listener)
            (self._refuse if fault == "refused" else self._swallow)()
        if seconds is not None:
            self._loop.call_later(seconds, self._end_fault)
        return time.monotonic()

    def tune(self, latency=_LATENCY, capacity=0.0, idle=0.0):
        """Set the seconds of an answer, the answers per second, and the keep-alive time."""
        self._latency, self._capacity, self._idle = latency, capacity, idle
        return time.monotonic()

    def drop(self, *, silently=False):
        """Close all connections, or never answer on them again. Return how many."""
        dropped = list(self.connections)
        for connection in dropped:
            if silently:
                connection.is_deaf = True
            else:
                connection.transport.close()
        return len(dropped)

    def report(self):
        """Return the calls, and the number of connections."""
        return [self.calls, len(self.connections)]

    # -- The listener ------

    def _listen(self):
        self._listener.listen(_BACKLOG)
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self):
        with suppress(BlockingIOError):
            while True:
                sock, _ = self._listener.accept()
                accepting = self._loop.connect_accepted_socket(
                    lambda: Connection(self), sock, ssl=self._tls
                )
                self._loop.create_task(accepting).add_done_callback(
                    lambda task: task.exception()  # TLS that the client gave up
                )

    def _refuse(self):
        for connection in list(self.connections):
            connection.reset()
        self._listener.shutdown(socket.SHUT_RD)

    def _swallow(self):
        # Linux drops each SYN while the queue of connections to accept is full.
        self.drop(silently=True)
        self._listener.listen(0)
        while True:
            filler = socket.socket()
            self._fillers.append(filler)
            filler.settimeout(0.05)
            try:
                filler.connect(("127.0.0.1", self.port))
            except TimeoutError:
                return

    def _end_fault(self):
        fault, self._fault = self._fault, ""
        for filler in self._fillers:
            filler.close()
        self._fillers = []
        if fault in ("refused", "blackhole"):
            self._listen()

    # -- Calls ------

    def called(self, connection, call):
        fault = self._fault
        if connection.is_deaf:
            fault = "silent"
        elif fault and (self._random.random() >= self._share or next(self._left, None) is None):
            fault = ""
        ticket = call["Ticket"]
        self.calls.append((time.monotonic(), ticket, fault))
        if fault == "reset":
            connection.reset()
        elif fault in ("hang", "silent"):
            return
        elif fault in FAULTS:
            self._answer_later(
                connection, FAULTS[fault], closes=fault not in ("502", "code 26")
            )
        else:
            code = 1 if ticket.startswith("tr03good") else 21 if "terror" in ticket else 7
            code = 21 if ticket.startswith("trerror") else code
            self._answer_later(connection, verdict(code))

    def _answer_later(self, connection, answer, *, closes=False):
        now = time.monotonic()
        begins = max(now, self._free_at)
        if self._capacity:
            # Calls whose clients are gone take their time, too.
            begins = self._free_at = begins + 1 / self._capacity
        self._loop.call_later(
            begins - now + self._latency, self._answer, connection, answer, closes
        )

    def _answer(self, connection, answer, closes):
        if connection.is_deaf:
            return
        connection.transport.write(answer)
        if closes:
            connection.transport.close()
        elif self._idle:
            if connection.closing is not None:
                connection.closing.cancel()
            close = connection.transport.close
            connection.closing = self._loop.call_later(self._idle, close)


async def main(certificate: str = "") -> None:
    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    upstream = Upstream(tls)
    ended = asyncio.Event()

    async def control(reader, writer):
        while line := await reader.readline():
            name, arguments = json.loads(line)
            result = getattr(upstream, name)(**arguments)
            writer.write(json.dumps(result).encode() + b"\n")
            await writer.drain()
        ended.set()
        writer.close()

    server = await asyncio.start_server(control, "127.0.0.1", 0)
    print(upstream.port, server.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    await ended.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
