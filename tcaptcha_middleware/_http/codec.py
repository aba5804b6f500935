"""HTTP/1.1 for one POST and its response, as bytes. Does no I/O.

The reader is strict: it accepts what an API gateway sends, and rejects everything else.

https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

MAX_HEAD = 16 * 1024
MAX_BODY = 32 * 1024  # Tencent's are below 1 KiB

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_HEAD = re.compile(
    rb"HTTP/1\.(?P<minor>[01]) (?P<status>[1-5][0-9]{2})(?: " + _TEXT + rb")?\r\n"
    rb"(?P<fields>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:" + _TEXT + rb"\r\n)*+)\r\n"
)
_FRAMING = re.compile(
    rb"^(content-length|transfer-encoding|connection):([^\r\n]*+)\r$",
    re.IGNORECASE | re.MULTILINE,
)
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,10}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,6})\r\n")
_LONGEST_CHUNK_SIZE = 7  # with the first half of the line's end
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class ProtocolError(Exception):
    """The other end sent something that is not an HTTP response as expected here."""


@dataclass(slots=True, eq=False)
class Answer:
    """A complete response; `resent` if the request was sent twice, and maybe handled twice."""

    status: int
    body: bytes
    is_reusable: bool = False  # whether the connection may carry another request
    resent: bool = False


def encode_head(headers: Mapping[str, str]) -> bytes:
    """Return the head of a POST to `/`, up to the headers that differ from call to call."""
    return b"POST / HTTP/1.1\r\n" + _encode_fields(headers)


def encode_request(head: bytes, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a request in one piece, because a second write would be a second packet.

    Args:
        head: The result of `encode_head`.
        headers: Further headers.
        body: The body.
    """
    return b"%b%bContent-Length: %d\r\n\r\n%b" % (
        head,
        _encode_fields(headers),
        len(body),
        body,
    )


def _encode_fields(headers: Mapping[str, str]) -> bytes:
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not fields.count("\r") == fields.count("\n") == len(headers):
        raise ValueError("a header contains a line break")
    return fields.encode()


class ResponseReader:
    """Reads one response from pieces of any size; only its head after CONNECT."""

    def __init__(self, *, has_body: bool = True) -> None:
        self._buffer = bytearray()
        self._reading = self._read(has_body=has_body)

    def feed(self, data: bytes) -> Answer | None:
        """Take the next piece, empty at the end; return the response once it is complete."""
        if not data:
            raise ProtocolError("the connection ended before the response was complete")
        self._buffer += data
        return next(self._reading)

    def _read(self, *, has_body: bool) -> Iterator[Answer | None]:
        skipped, status = 0, 0
        while status < HTTPStatus.OK:  # interim responses come first
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                # Reject what cannot become a head, instead of waiting for its end.
                is_http = self._buffer[:7] == b"HTTP/1."[: len(self._buffer)]
                if not is_http or _BARE_LINE_FEED.search(self._buffer):
                    raise ProtocolError("the other end does not speak HTTP/1.1")
                if skipped + len(self._buffer) > MAX_HEAD:
                    raise ProtocolError("the head of the response is too long")
                yield None
            skipped += end + 4
            if skipped > MAX_HEAD:
                raise ProtocolError("the head of the response is too long")
            text = bytes(self._buffer[: end + 4])
            del self._buffer[: end + 4]
            head = _HEAD.fullmatch(text)
            if head is None or head["status"] == b"101":
                raise ProtocolError("the head of the response is malformed")
            status, is_old, fields = int(head["status"]), head["minor"] == b"0", head["fields"]
        if not has_body:
            yield Answer(status, b"")
        length, closes = _framing(status, fields, is_old=is_old)
        if length is not None and length > MAX_BODY:
            raise ProtocolError("the body of the response is too long")
        body = yield from (self._take_chunks() if length is None else self._take(length))
        # Bytes after the response would be read as the response to the next request.
        yield Answer(status, body, is_reusable=not closes and not self._buffer)

    def _take(self, length: int) -> Generator[None, None, bytes]:
        while len(self._buffer) < length:
            yield
        piece = bytes(self._buffer[:length])
        del self._buffer[:length]
        return piece

    def _take_chunks(self) -> Generator[None, None, bytes]:
        body = bytearray()
        while True:
            while (end := self._buffer.find(b"\r\n")) < 0:
                if len(self._buffer) > _LONGEST_CHUNK_SIZE:
                    raise ProtocolError("the response has an invalid chunk size")
                yield
            line = _CHUNK_SIZE.fullmatch((yield from self._take(end + 2)))
            if line is None:
                raise ProtocolError("the response has an invalid chunk size")
            size = int(line[1], 16)
            if len(body) + size > MAX_BODY:
                raise ProtocolError("the body of the response is too long")
            chunk = yield from self._take(size + 2)
            if not chunk.endswith(b"\r\n"):
                raise ProtocolError("the response has an invalid chunk, or a trailer")
            body += chunk[:-2]
            if not size:
                return bytes(body)


def _framing(status: int, fields: bytes, *, is_old: bool) -> tuple[int | None, bool]:
    """Return the length of the body, None for chunks, and if the connection ends after it."""
    length, is_chunked, closes = -1, False, is_old
    for name, padded in _FRAMING.findall(fields):
        value = padded.strip(b"\t ")
        match name.lower():
            case b"connection":
                options = value.lower().split(b",")
                closes = closes or b"close" in [option.strip() for option in options]
            case _ if is_chunked or length >= 0:
                raise ProtocolError("the response has more than one length")
            case b"transfer-encoding":
                is_chunked = value.lower() == b"chunked" and not is_old
                if not is_chunked or status in _WITHOUT_BODY:
                    raise ProtocolError("the response has an unexpected Transfer-Encoding")
            case _:
                length = int(value) if _LENGTH.fullmatch(value) else -1
                if length < 0 or (length and status in _WITHOUT_BODY):
                    raise ProtocolError("the response has an invalid Content-Length")
    if is_chunked or length >= 0:
        return None if is_chunked else length, closes
    if status == HTTPStatus.OK:
        raise ProtocolError("the response does not give its length")
    # Some proxies send error pages without a length; their status is enough.
    return 0, closes or status not in _WITHOUT_BODY
