"""Parsers for request bodies, each with a bound on the work that a client can cause.

They turn bytes into a document or a list of fields. They neither read from the client nor
know about tickets. Invalid bytes raise `RequestBodyError` and nothing else.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from codecs import BOM_UTF8
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl

from tcaptcha_middleware.errors import RequestBodyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FormFields = list[tuple[str, str]]
"""The fields of a form in the order they were sent: pairs of name and value."""

MAX_FIELDS = 1000
"""How many fields of a form are read for a function; as Django and Starlette limit them."""

MAX_REPEATS = 64
"""How many different values of the fields that hold the pair are compared."""

MAX_OBJECTS = 5000
"""How many objects of a JSON document are decoded for a function."""

MAX_HEADERS = 1000
"""How many parts and part headers of a multipart form are read."""

# Longer than any pair, percent-encoded, that is not malformed.
_LONGEST = 32 * 1024
# RFC 2046 allows 70 (section 5.1.1), but Werkzeug's test client sends up to 72. Django reads
# about 200, python-multipart 256.
_MAX_BOUNDARY = 200


class BodyParser(Protocol):
    """Reads a body piece by piece.

    Attributes:
        whole: Whether the body was read to its end.
    """

    whole: bool

    @property
    def feed(self) -> Callable[[bytes], object]:
        """Take the next piece; return True if the rest of the body is not needed."""
        ...

    def finish(self) -> Any:
        """Return what was read.

        Raises:
            RequestBodyError: If the body does not conform to its media type.
        """
        ...


class WholeBody:
    """Keeps the body, and decodes it when it is complete.

    Args:
        decode: Decodes the body.
    """

    whole: bool = True

    def __init__(self, decode: Callable[[bytes], object]) -> None:
        self._decode = decode
        self._pieces: list[bytes] = []
        self.feed: Callable[[bytes], object] = self._pieces.append

    def finish(self) -> object:
        """Decode the body."""
        return self._decode(b"".join(self._pieces))


# -- Urlencoded forms ------


def all_fields(data: bytes) -> FormFields:
    """Return every field of an urlencoded form.

    Raises:
        RequestBodyError: If there are more than `MAX_FIELDS`.
    """
    try:
        return parse_qsl(
            data.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise RequestBodyError(f"the form has more than {MAX_FIELDS} fields") from error


def fields_named(data: bytes, names: frozenset[str]) -> FormFields:
    """Return the fields of these names in an urlencoded form or a query string.

    Only these fields are decoded, because a client can send 30,000 others in 64 KB. Repetitions
    are decoded once, and no more than `MAX_REPEATS` different spellings.
    """
    # The `&` lets the search skip to the next field without trying each byte.
    spelled = dict.fromkeys(_field_pattern(names).findall(b"&" + data))
    candidates = b"".join([*spelled][:MAX_REPEATS])[:_LONGEST]
    fields = parse_qsl(candidates.decode("utf-8", "replace"), keep_blank_values=True)
    return [(name, value) for name, value in fields if name in names]


@lru_cache(maxsize=128)
def _field_pattern(names: frozenset[str]) -> re.Pattern[bytes]:
    """Match the fields of these names, percent-encoded or not."""
    spellings = [
        b"".join(
            b"(?:%s%s|%%(?i:%02x))" % (re.escape(byte), b"|\\+" * (byte == b" "), ord(byte))
            for byte in (bytes([number]) for number in name.encode())
        )
        for name in names
    ]
    return re.compile(b"&(?:" + b"|".join(spellings) + b")(?:=[^&]*+)?(?![^&])")


# -- JSON ------


class JsonObject(list[tuple[str, Any]]):
    """A JSON object as its pairs of key and value, including repeated keys."""

    __slots__ = ()


def _plain_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) != len(pairs):
        raise RequestBodyError("a key of the JSON is repeated")
    return plain


# sys.set_int_max_str_digits() cannot set a lower limit than this.
_SAFE_DIGITS = sys.int_info.str_digits_check_threshold
# Up to here, to keep every pair costs less than to look for repeated keys.
_FEW_OBJECTS = 16
# RFC 8259, section 2.
_WHITESPACE = " \t\n\r"
_PAIRS = json.JSONDecoder(object_pairs_hook=JsonObject)
# float() takes any number of digits, and the decoder calls it without a Python frame.
_PAIRS_LONG = json.JSONDecoder(object_pairs_hook=JsonObject, parse_int=float)
_DEFAULT = json.JSONDecoder()
_PLAIN = json.JSONDecoder(object_pairs_hook=_plain_object)
# Slower, because it calls a function for each integer.
_PLAIN_LONG = json.JSONDecoder(
    object_pairs_hook=_plain_object,
    parse_int=lambda digits: (int if len(digits) <= _SAFE_DIGITS else float)(digits),
)


def decode_json(body: bytes, decoder: json.JSONDecoder = _PAIRS) -> object:
    """Decode JSON, by default with objects as `JsonObject`.

    Raises:
        RequestBodyError: If the body is not JSON in UTF-8.
        ValueError: If the decoder calls int() for more digits than that takes.
    """
    # The charset is UTF-8, and a byte order mark may be ignored (RFC 8259, section 8.1).
    try:
        # Stripped here, because decode() looks for whitespace with patterns, which takes a
        # quarter of its time.
        text = body.removeprefix(BOM_UTF8).decode().strip(_WHITESPACE)
        document, end = decoder.raw_decode(text)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise RequestBodyError("the body is not JSON in UTF-8") from error
    if end != len(text):
        raise RequestBodyError("something follows the JSON")
    return document


def decode_keys(body: bytes, keys: Sequence[bytes]) -> object:
    """Decode JSON of which only a few keys are read, as dicts if none of them can be repeated.

    `JsonObject` takes up to eight times as long for many small objects.

    Args:
        body: The body.
        keys: The keys as a body without escapes has them, in quotes.

    Raises:
        RequestBodyError: If the body is not JSON in UTF-8.
    """
    decoder = _PAIRS
    # In quotes, and without escapes, a key is nothing else.
    if body.count(b"{") > _FEW_OBJECTS and b"\\" not in body:
        decoder = _PAIRS if max(map(body.count, keys)) > 1 else _DEFAULT
    try:
        return decode_json(body, decoder)
    except ValueError:
        # int() limits the number of digits, since its time is quadratic.
        return decode_json(body, _PAIRS_LONG)


def decode_plain_json(body: bytes) -> object:
    """Decode JSON as Python's own decoder does, except for integers that it refuses.

    An integer that is too long for `int()` becomes a float, usually infinity.

    Raises:
        RequestBodyError: If the body is not JSON in UTF-8, has more than `MAX_OBJECTS`, or
            repeats a key of an object: parsers differ in which of the values they take.
    """
    if body.count(b"{") > MAX_OBJECTS:
        raise RequestBodyError(f"the JSON has more than {MAX_OBJECTS} objects")
    try:
        return decode_json(body, _PLAIN)
    except ValueError:  # as above
        return decode_json(body, _PLAIN_LONG)


# -- Multipart forms ------

_QUOTED = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'


@cache  # compiled when it is used: not every application has multipart forms
def _parameters(*names: bytes) -> re.Pattern[bytes]:
    """Match a header, with a group for the last parameter of each name.

    The pattern is possessive, so it takes time in proportion to the header's length. The
    extended syntax (`name*=`), which RFC 7578, section 4.2, forbids, is another name.
    """
    value = rb"(?:" + _QUOTED + rb'|[^;"\s]*+)'
    named = [
        rb"%s[ \t]*+=[ \t]*+(?P<%s>%s)[ \t]*+(?=;|\Z)" % (name, name, value) for name in names
    ]
    other = rb'[^;"]*+(?:' + _QUOTED + rb'[^;"]*+)*+'
    parameter = b"|".join([*named, other])
    return re.compile(
        rb"[^;]*+(?:;[ \t]*+(?:" + parameter + rb"))*+", re.IGNORECASE | re.DOTALL
    )


def _unquoted(value: bytes) -> bytes:
    return re.sub(rb"\\(.)", rb"\1", value[1:-1]) if value.startswith(b'"') else value


class _EnoughError(Exception):
    """Ends the parser's work on a piece."""


_SILENT = logging.getLogger(f"{__name__}.multipart")
_SILENT.disabled = True


class MultipartForm:
    """Reads the fields of a multipart form, without its files (RFC 7578).

    Args:
        content_type: The request's `Content-Type`, with its parameters.
        names: The fields that may hold the pair.
        enough: Whether these fields hold all that is needed, so reading can stop.
        every: Whether the other fields are kept, too.

    Raises:
        RequestBodyError: If the boundary is missing or too long.
    """

    def __init__(
        self,
        content_type: str,
        names: frozenset[str],
        enough: Callable[[FormFields], bool],
        *,
        every: bool,
    ) -> None:
        # Loaded here, because few requests have a multipart body.
        from python_multipart import MultipartParser

        header = _parameters(b"boundary").fullmatch(content_type.encode("latin-1", "replace"))
        boundary = _unquoted(header["boundary"] or b"") if header else b""
        if not 1 <= len(boundary) <= _MAX_BOUNDARY:
            raise RequestBodyError("the multipart boundary is missing or too long")
        self.whole: bool = False
        self._names, self._enough, self._every = names, enough, every
        self._fields: FormFields = []
        self._candidates: FormFields = []
        self._begun = self._stopped = False
        self._headers = 0
        # Of the part, and of the header in it, that is read at the moment.
        self._field: str | None = None
        self._value, self._name, self._header = bytearray(), bytearray(), bytearray()
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._count,
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._header.extend(
                    data[start:end]
                ),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
        )
        # It warns of each malformed form, so a client could flood the log.
        self._parser.logger = _SILENT

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; return whether the rest of the body is not needed."""
        if not self._begun:
            # After a line break the parser skips to the piece's first dash, so what it skips
            # would depend on how the body was cut.
            piece = piece.lstrip(b"\r\n")
            self._begun = bool(piece)
        try:
            self._parser.write(piece)
        except _EnoughError:
            self._stopped = True
        except ValueError as error:
            raise RequestBodyError("the body is not a multipart form") from error
        return self._stopped

    def finish(self) -> FormFields:
        """Return every field if the form was read to its end, otherwise the candidates."""
        if not self._stopped:
            raise RequestBodyError("the multipart form ends without its last boundary")
        return self._fields if self._every and self.whole else self._candidates

    def _count(self) -> None:
        # Each costs a few calls, and a client can send 10,000 in 64 KB.
        self._headers += 1
        if self._headers > MAX_HEADERS:
            raise RequestBodyError(f"the form has more than {MAX_HEADERS} parts and headers")

    def _header_end(self) -> None:
        self._count()
        if self._name.lower() == b"content-disposition":
            self._disposition = bytes(self._header)
        self._name.clear()
        self._header.clear()

    def _headers_finished(self) -> None:
        header = _parameters(b"name", b"filename").fullmatch(self._disposition)
        self._disposition, self._field = b"", None
        self._value.clear()
        if header and header["filename"] is None:
            name = _unquoted(header["name"] or b"").decode("utf-8", "replace")
            if self._every or name in self._names:
                self._field = name

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is not None:
            self._value += data[start:end]

    def _end(self) -> None:
        if self._field is None:
            return
        field = self._field, self._value.decode("utf-8", "replace")
        if self._every:
            self._fields.append(field)
        if field[0] in self._names and field not in self._candidates:
            self._candidates.append(field)
            if self._enough(self._candidates):
                raise _EnoughError

    def _finish(self) -> None:
        self.whole = True
        raise _EnoughError
