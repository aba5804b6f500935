"""Reads responses with h11, to compare our reader with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

from tcaptcha_middleware._http.codec import ProtocolError, ResponseReader

if TYPE_CHECKING:
    from tcaptcha_middleware._http.codec import Answer


def read_by_h11(data: bytes) -> tuple[int, bytes, bool] | None:
    """Return status, body, and if it has a length; None if h11 rejects it or waits for more."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, body, is_framed = 0, b"", False
    try:
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
                names = {name for name, _ in event.headers}
                is_framed = bool(names & {b"content-length", b"transfer-encoding"})
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None
    return status, body, is_framed


def read_by_us(*pieces: bytes) -> Answer | None:
    """Return the response; None if our reader rejects it, or does not find its end."""
    reader = ResponseReader()
    try:
        for piece in pieces:
            if answer := reader.feed(piece):
                return answer
    except ProtocolError:
        pass
    return None


def assert_agreement(data: bytes) -> None:
    """Check that our reader accepts nothing that h11 rejects, and reads the same otherwise."""
    ours, theirs = read_by_us(data), read_by_h11(data)
    if ours is None:
        return
    assert theirs is not None, data
    assert ours.status == theirs[0], data
    # Only the status of an error page without a length is read.
    assert ours.body == theirs[1] or (ours.status != 200 and not theirs[2]), data
    in_bytes = read_by_us(*(bytes([byte]) for byte in data))
    assert in_bytes is not None, data
    assert (in_bytes.status, in_bytes.body) == (ours.status, ours.body), data
