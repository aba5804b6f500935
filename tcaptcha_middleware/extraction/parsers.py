"""Parsers that are fed a body piece by piece and stop as soon as they can.

They know media types and fields; they read nothing themselves and hold no limits, which are
the guard's. Bad bytes end in a `RequestBodyError`, and in nothing else.
"""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from tcaptcha_middleware.errors import RequestBodyError
from tcaptcha_middleware.extraction.pairs import PartialPair, half

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# RFC 2046, section 5.1.1.
_MAX_BOUNDARY = 70


class Parser(Protocol):
    """Reads a body piece by piece."""

    def feed(self, piece: bytes) -> PartialPair | None:
        """Take the next piece; return what was seen once no more needs to be read."""
        ...

    def finish(self) -> PartialPair:
        """Take the body's end.

        Raises:
            RequestBodyError: The body is not what its media type says.
        """
        ...


class Whole:
    """Keeps what comes, and reads the document when it is complete.

    Args:
        read: Finds two fields in a document.
        ticket: The field that holds the ticket.
        randstr: The field that holds the randstr.
    """

    def __init__(
        self, read: Callable[[bytes, str, str], PartialPair], ticket: str, randstr: str
    ) -> None:
        self._read = read
        self._names = ticket, randstr
        self._body = bytearray()

    def feed(self, piece: bytes) -> None:
        """Keep the piece."""
        self._body += piece

    def finish(self) -> PartialPair:
        """Read the document."""
        return self._read(bytes(self._body), *self._names)


def form_fields(body: bytes, ticket: str, randstr: str) -> PartialPair:
    """Return every value of two fields of an urlencoded form, or of a query string."""
    fields = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return named(fields, ticket, randstr)


def named(fields: Sequence[tuple[str, str]], ticket: str, randstr: str) -> PartialPair:
    """Return what fields of two names hold."""
    return PartialPair(
        half([value for name, value in fields if name == ticket]),
        half([value for name, value in fields if name == randstr]),
    )


def json_fields(body: bytes, ticket: str, randstr: str) -> PartialPair:
    """Return every value at two keys of a JSON object; a dot leads into an object.

    Raises:
        RequestBodyError: The body is no JSON in UTF-8.
    """
    document = _load(body)
    return PartialPair(half(_values(document, ticket)), half(_values(document, randstr)))


class _Object(list[tuple[str, Any]]):
    """A JSON object with its duplicate keys."""


def _load(body: bytes) -> object:
    # The charset is UTF-8, and a byte order mark may be ignored (RFC 8259, section 8.1).
    try:
        # Stripped here, because decode() looks for blanks with patterns, which takes a quarter
        # of its time.
        text = body.removeprefix(BOM_UTF8).decode().strip(_BLANKS)
        document, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise RequestBodyError("the body is no JSON") from error
    if end != len(text):
        raise RequestBodyError("something follows the JSON")
    return document


# RFC 8259, section 2.
_BLANKS = " \t\n\r"


def _number(text: str) -> float:
    return float(len(text))


# Numbers are not ours to judge, so they are not made: a number of 5,000 digits is an error to
# int() and none to the application.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object,
    parse_int=_number,
    parse_float=_number,
    parse_constant=_number,
)


def _values(document: object, path: str) -> list[object]:
    found = [document]
    for key in path.split("."):
        found = [
            value
            for parent in found
            if isinstance(parent, _Object)
            for name, value in parent
            if name == key
        ]
    return found


class Multipart:
    """Follows a multipart form up to the last half that is needed (RFC 7578).

    Args:
        content_type: The request's `Content-Type`, with its parameters.
        ticket: The field that holds the ticket.
        randstr: The field that holds the randstr.
        needs_randstr: Whether a ticket is good only with its randstr.

    Raises:
        RequestBodyError: There is no usable boundary.
    """

    def __init__(
        self, content_type: str, ticket: str, randstr: str, *, needs_randstr: bool
    ) -> None:
        # Loaded here, because most requests have no multipart body.
        from python_multipart import MultipartParser
        from python_multipart.multipart import parse_options_header

        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not 1 <= len(boundary) <= _MAX_BOUNDARY:
            raise RequestBodyError("the multipart boundary is missing or too long")
        self._parse_header = parse_options_header
        self._ticket = ticket
        self._names = (ticket, randstr) if needs_randstr else (ticket,)
        self._seen = PartialPair(randstr=None if needs_randstr else "")
        self._begun = self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )

    def feed(self, piece: bytes) -> PartialPair | None:
        """Take the next piece; return what was seen at the pair, or at the form's end."""
        if not self._begun:
            # After a line break the parser skips to the piece's first dash, so that what it
            # skips would depend on where the body was cut.
            piece = piece.lstrip(b"\r\n")
            self._begun = bool(piece)
        try:
            self._parser.write(piece)
        except ValueError as error:
            if not self._seen.complete:
                raise RequestBodyError("the body is no multipart form") from error
        return self._seen if self._seen.complete or self._ended else None

    def finish(self) -> PartialPair:
        """Refuse a form that has no last boundary."""
        raise RequestBodyError("the multipart form ends in the middle")

    def _begin(self) -> None:
        self._disposition = self._name = self._header = b""
        self._field: str | None = None
        self._value = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._header
        self._name = self._header = b""

    def _headers_finished(self) -> None:
        _, options = self._parse_header(self._disposition)
        if b"filename" not in options:
            self._field = options.get(b"name", b"").decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field in self._names:
            self._value += data[start:end]

    def _end(self) -> None:
        # What follows the pair is not looked at, however the body was cut into pieces.
        if self._field in self._names and not self._seen.complete:
            value = half([self._value.decode("utf-8", "replace")])
            found = (
                PartialPair(value)
                if self._field == self._ticket
                else PartialPair(randstr=value)
            )
            self._seen = self._seen.and_also(found)

    def _finish(self) -> None:
        self._ended = True
