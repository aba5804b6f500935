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
    from collections.abc import Mapping

MAX_HEAD = 16 * 1024
MAX_BODY = 32 * 1024  # Tencent's are below 1 KiB

_END_OF_HEAD = b"\r\n\r\n"
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_HEAD = re.compile(
    rb"HTTP/1\.(?P<minor>[01]) (?P<status>[1-5][0-9]{2})(?: " + _TEXT + rb")?\r\n"
    rb"(?P<fields>(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:" + _TEXT + rb"\r\n)*+)\r\n"
)
_FRAMING = re.compile(
    rb"^(content-length|transfer-encoding|connection):[\t ]*+([^\r\n]*?)[\t ]*+\r$",
    re.IGNORECASE | re.MULTILINE,
)
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_LENGTH = re.compile(rb"[0-9]{1,10}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,6}")
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


def encode_request(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a POST to `/` in one piece, because a second write would be a second packet."""
    fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not fields.count("\r") == fields.count("\n") == len(headers):
        raise ValueError("a header contains a line break")
    return f"POST / HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


class ResponseReader:
    """Reads one response from pieces of any size; without a body after CONNECT."""

    def __init__(self, *, has_body: bool = True) -> None:
        self._has_body = has_body
        self._buffer = bytearray()
        self._skipped = 0
        self._status = 0
        self._length: int | None = 0  # None if the body is chunked
        self._chunks = bytearray()
        self._closes = False

    def feed(self, data: bytes) -> Answer | None:
        """Take the next piece, empty at the end; return the response once it is complete."""
        if not data:
            raise ProtocolError("the connection ended before the response was complete")
        self._buffer += data
        if not self._status and not self._read_head():
            return None
        if self._length is None:
            if not self._read_chunks():
                return None
            body = bytes(self._chunks)
        else:
            if len(self._buffer) < self._length:
                return None
            body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
        # Bytes after the response would be read as the response to the next request.
        return Answer(self._status, body, is_reusable=not self._closes and not self._buffer)

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(_END_OF_HEAD) + len(_END_OF_HEAD)
            is_complete = end >= len(_END_OF_HEAD)
            if self._skipped + (end if is_complete else len(self._buffer)) > MAX_HEAD:
                raise ProtocolError("the head of the response is too long")
            if not is_complete:
                # Reject what cannot become a head, instead of waiting for its end.
                is_http = self._buffer[:7] == b"HTTP/1."[: len(self._buffer)]
                if not is_http or _BARE_LINE_FEED.search(self._buffer):
                    raise ProtocolError("the other end does not speak HTTP/1.1")
                return False
            head = _HEAD.fullmatch(bytes(self._buffer[:end]))
            if head is None or head["status"] == b"101":
                raise ProtocolError("the head of the response is malformed")
            del self._buffer[:end]
            if int(head["status"]) >= HTTPStatus.OK:
                self._status = int(head["status"])
                self._read_framing(head["minor"] == b"0", head["fields"])
                return True
            self._skipped += end  # an interim response

    def _read_framing(self, is_old: bool, fields: bytes) -> None:
        values: dict[bytes, list[bytes]] = {}
        for name, value in _FRAMING.findall(fields):
            values.setdefault(name.lower(), []).append(value.lower())
        options = b",".join(values.get(b"connection", [])).split(b",")
        self._closes = is_old or b"close" in [option.strip() for option in options]
        lengths = values.get(b"content-length", [])
        encodings = values.get(b"transfer-encoding", [])
        if not self._has_body:
            return
        if len(lengths) + len(encodings) > 1:
            raise ProtocolError("the response has more than one length")
        if encodings:
            if encodings != [b"chunked"] or is_old or self._status in _WITHOUT_BODY:
                raise ProtocolError("the response has an unexpected Transfer-Encoding")
            self._length = None
        elif lengths:
            self._length = (
                self._checked(int(lengths[0])) if _LENGTH.fullmatch(lengths[0]) else -1
            )
            if self._length < 0 or (self._length and self._status in _WITHOUT_BODY):
                raise ProtocolError("the response has an invalid Content-Length")
        elif self._status not in _WITHOUT_BODY:
            if self._status == HTTPStatus.OK:
                raise ProtocolError("the response has no length")
            # Some proxies send error pages without a length; their status is enough.
            self._closes = True

    def _read_chunks(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n")
            if end < 0 and len(self._buffer) <= _LONGEST_CHUNK_SIZE:
                return False
            line, start = self._buffer[: max(end, 0)], end + 2
            if not _CHUNK_SIZE.fullmatch(line):
                raise ProtocolError("the response has an invalid chunk")
            size = int(line, 16)
            self._checked(len(self._chunks) + size)
            if len(self._buffer) < start + size + 2:
                return False
            if self._buffer[start + size : start + size + 2] != b"\r\n":
                raise ProtocolError("the response has an invalid chunk, or a trailer")
            self._chunks += self._buffer[start : start + size]
            del self._buffer[: start + size + 2]
            if not size:
                return True

    def _checked(self, size: int) -> int:
        if size > MAX_BODY:
            raise ProtocolError("the body of the response is too long")
        return size
