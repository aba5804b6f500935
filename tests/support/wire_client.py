"""A client on a raw socket that sends what no HTTP library would, at any speed."""

from __future__ import annotations

import json
import select
import socket
import struct
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple, Self

PATIENCE = 30.0


class Answer(NamedTuple):
    """A response; the status is 0 if the server closed without one."""

    status: int
    body: bytes = b""

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        if self.status in (0, 200):
            return "closed" if self.status == 0 else "allowed"
        try:
            return str(self.document["code"])
        except (ValueError, KeyError):
            return f"the server's own {self.status}"


class Wire:
    """One connection; every wait on it has a timeout."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        """Send, unless the server has closed; its response can still be read."""
        with suppress(ConnectionError):
            for piece in pieces:
                self._socket.sendall(piece)

    def head(self, target: str, *headers: str, method: str = "POST") -> None:
        lines = [f"{method} {target} HTTP/1.1", "Host: a", "Connection: close", *headers]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def begin(self) -> HTTPResponse:
        """Read an answer's head; an interim one is skipped."""
        response = HTTPResponse(self._socket)
        response.begin()
        return response

    def answer(self) -> Answer:
        try:
            response = self.begin()
            return Answer(response.status, response.read())
        except (ConnectionError, HTTPException):
            return Answer(0)

    def readable(self, seconds: float) -> bool:
        """Return if a response, or the connection's end, arrives within so many seconds."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def line(self) -> bytes:
        """Read up to a line's end, and no further."""
        line = b""
        while not line.endswith(b"\n") and (byte := self._socket.recv(1)):
            line += byte
        return line

    def end(self) -> None:
        """Close the sending side, and continue to read."""
        with suppress(OSError):  # it may be over already
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
