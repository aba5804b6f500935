"""An HTTP/2 client without TLS, for many concurrent requests that no library would send."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Self

import h2.config
import h2.connection
import h2.events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATIENCE = 10.0
# Servers allow a hundred streams at once.
_AT_ONCE = 50
Header = tuple[bytes, bytes]


class H2Client:
    """One connection, begun with prior knowledge (RFC 9113, section 3.3)."""

    def __init__(self, port: int) -> None:
        config = h2.config.H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = h2.connection.H2Connection(config)
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._h2.initiate_connection()
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(
        self, method: bytes, target: bytes, *headers: Header, body: bytes | None = None
    ) -> int:
        """Send a request; with a body, even an empty one, its head does not end the stream."""
        stream = self._h2.get_next_available_stream_id()
        pseudo = [
            (b":method", method),
            (b":scheme", b"http"),
            (b":authority", b"a"),
            (b":path", target),
        ]
        self._h2.send_headers(stream, [*pseudo, *headers], end_stream=body is None)
        if body is not None:
            self._flush()  # the head arrives before there is a body
            self._h2.send_data(stream, body, end_stream=True)
        self._flush()
        return stream

    def answers(self, *streams: int) -> dict[int, dict[bytes, bytes]]:
        """Wait until all these streams have ended; return the headers of their responses."""
        heads: dict[int, dict[bytes, bytes]] = {}
        open_streams = set(streams)
        while open_streams and (received := self._socket.recv(64 * 1024)):
            for event in self._h2.receive_data(received):
                match event:
                    case h2.events.ResponseReceived():
                        heads[event.stream_id] = dict(event.headers)
                    case h2.events.DataReceived():
                        length = event.flow_controlled_length
                        self._h2.acknowledge_received_data(length, event.stream_id)
                    case h2.events.StreamEnded() | h2.events.StreamReset():
                        open_streams.discard(event.stream_id)
            self._flush()
        return {stream: heads.get(stream, {}) for stream in streams}

    def send_all(
        self, requests: Iterable[tuple[bytes, bytes]], *headers: Header
    ) -> Iterator[dict[bytes, bytes]]:
        """Send bodiless requests of a method and a target each, and return their responses."""
        waiting = list(requests)
        for start in range(0, len(waiting), _AT_ONCE):
            part = waiting[start : start + _AT_ONCE]
            yield from self.answers(*(self.send(*each, *headers) for each in part)).values()

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())
