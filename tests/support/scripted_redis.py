"""A Redis that answers what a test says, and counts the commands it was sent."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class ScriptedRedis:
    """Answers `SET` with `reply`, or never if it is None, and everything else with OK."""

    def __init__(self, listener: socket.socket, reply: bytes | None) -> None:
        self.port: int = listener.getsockname()[1]
        self.received = b""
        self._reply = reply
        self._listener = listener

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                self.received += data
                if b"SET" not in data:
                    connection.sendall(b"+OK\r\n")
                elif self._reply is not None:
                    connection.sendall(self._reply)


@contextmanager
def scripted_redis(reply: bytes | None) -> Iterator[ScriptedRedis]:
    """Serve a scripted Redis for as long as the context lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        redis = ScriptedRedis(listener, reply)
        threading.Thread(target=redis.run, daemon=True).start()
        yield redis
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def forwarder(port: int) -> Iterator[tuple[int, list[int]]]:
    """Forward one address to another, as a load balancer does.

    Yields its port, and a list whose only item is the port that new connections lead to.
    """
    target = [port]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with source, suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def run() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", target[0]))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1], target
        listener.shutdown(socket.SHUT_RDWR)
