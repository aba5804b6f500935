"""Extract: where a request may carry the pair of ticket and randstr, and how it is read there.

A source that stands in the request's head is asked with the head alone. A source that
stands in the body gives a parser, which is fed the body piece by piece and stops as soon as
it can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tcaptcha_middleware.errors import ConfigurationError, RequestBodyError
from tcaptcha_middleware.extraction.bodies import Multipart, Whole, form_fields, json_fields
from tcaptcha_middleware.extraction.pairs import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tcaptcha_middleware.extraction.bodies import Parser
    from tcaptcha_middleware.extraction.pairs import Pair
    from tcaptcha_middleware.models import Request


# https://www.rfc-editor.org/rfc/rfc6265bis#section-4.1.3.2
_HOST = "__Host-"


class Source:
    """A place where the pair may stand; override the one method that it needs."""

    __slots__ = ()

    def find(self, request: Request) -> Seen:  # noqa: ARG002  for those that need it
        """Return what the request's head holds."""
        return Seen()

    def parser(self, content_type: str) -> Parser | None:  # noqa: ARG002  likewise
        """Return a parser for such a body, or None where this source does not read it.

        Args:
            content_type: The request's `Content-Type`, with its parameters.

        Raises:
            RequestBodyError: Such a body cannot be read at all.
        """
        return None

    def ticket_parser(self, content_type: str) -> Parser | None:
        """Same as `parser`, where a ticket needs no randstr: it may stop at the ticket."""
        return self.parser(content_type)


@dataclass(frozen=True, slots=True)
class Header(Source):
    """The pair stands in two request headers.

    Args:
        ticket: The header that holds the ticket.
        randstr: The header that holds the randstr.
    """

    ticket: str = "X-Captcha-Ticket"
    randstr: str = "X-Captcha-Randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket.lower(), self.randstr.lower())
        for name in (self.ticket, self.randstr):
            # RFC 9110, section 5.6.2; an underscore is lost or forged on the way into WSGI.
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^`|~-]+", name):
                raise ConfigurationError(
                    f"{name!r} cannot be a header's name: use words and dashes"
                )

    def find(self, request: Request) -> Seen:
        """Return every value; a comma joins repeated headers (RFC 9110, section 5.3)."""
        return Seen(_split(request.header(self.ticket)), _split(request.header(self.randstr)))


def _split(values: list[str]) -> list[object]:
    return [part.strip() for value in values for part in value.split(",")]


@dataclass(frozen=True, slots=True)
class _Fields(Source):
    """The pair stands in two fields, each under its name."""

    ticket: str = "ticket"
    randstr: str = "randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket, self.randstr)


@dataclass(frozen=True, slots=True)
class Query(_Fields):
    """The pair stands in the query string. Such tickets end up in access logs.

    Args:
        ticket: The parameter that holds the ticket.
        randstr: The parameter that holds the randstr.
    """

    def find(self, request: Request) -> Seen:
        """Return every value of both parameters."""
        return form_fields(request.query, self.ticket, self.randstr)


@dataclass(frozen=True, slots=True)
class Cookie(Source):
    """The pair stands in two cookies, of `GET` and `HEAD` alone.

    A browser sends cookies by itself, so that no form on another site may spend a visitor's
    ticket: whatever changes something has to carry it openly. A cookie of the same name with
    `__Host-` before it, which no other host can set, comes first.

    Args:
        ticket: The cookie that holds the ticket, percent-encoded.
        randstr: The cookie that holds the randstr, likewise.
    """

    ticket: str = "tcaptcha_ticket"
    randstr: str = "tcaptcha_randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket, self.randstr)
        for name in (self.ticket, self.randstr):
            # RFC 6265, section 4.1.1.
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
                raise ConfigurationError(f"{name!r} cannot be a cookie's name: use one word")

    def find(self, request: Request) -> Seen:
        """Return every value of both cookies."""
        if request.kind != "http" or request.method.upper() not in ("GET", "HEAD"):
            return Seen()
        pairs = [_cookie(text) for value in request.header("Cookie") for text in _parts(value)]
        own = _named(pairs, f"{_HOST}{self.ticket}", f"{_HOST}{self.randstr}")
        return own if own.complete else _named(pairs, self.ticket, self.randstr)


def _named(pairs: list[tuple[str, str]], ticket: str, randstr: str) -> Seen:
    return Seen(
        [value for name, value in pairs if name == ticket],
        [value for name, value in pairs if name == randstr],
    )


def _parts(value: str) -> list[str]:
    # A comma is where WSGI servers join two headers; inside an encoded value there is none.
    return re.split("[;,]", value)


def _cookie(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), unquote(value.strip())


@dataclass(frozen=True, slots=True)
class Function(Source):
    """A function of your own finds the pair in the request's head.

    Args:
        function: Gets the `Request`; returns ticket and randstr, or None. The randstr is `""`
            where the ticket needs none.
    """

    function: Callable[[Request], Pair | None]

    def find(self, request: Request) -> Seen:
        """Return what the function found."""
        pair = self.function(request)
        return Seen() if pair is None else Seen([pair[0]], [pair[1]])


@dataclass(frozen=True, slots=True)
class Form(_Fields):
    """The pair stands in two fields of an HTML form, urlencoded or multipart.

    An urlencoded form is read to its end, because a later duplicate would make it ambiguous.
    A multipart form, which may carry an upload, is read up to the second half only, or up to
    the ticket where that needs no randstr.

    Args:
        ticket: The field that holds the ticket.
        randstr: The field that holds the randstr.
    """

    def parser(self, content_type: str) -> Parser | None:
        """Return a parser for both kinds of form."""
        return self._parser(content_type, Seen())

    def ticket_parser(self, content_type: str) -> Parser | None:
        """Same as `parser`, but stops at the ticket."""
        return self._parser(content_type, Seen(needs_randstr=False))

    def _parser(self, content_type: str, seen: Seen) -> Parser | None:
        media_type = _media_type(content_type)
        if media_type == "application/x-www-form-urlencoded":
            return Whole(lambda body: form_fields(body, self.ticket, self.randstr))
        if media_type == "multipart/form-data":
            return Multipart(content_type, self.ticket, self.randstr, seen)
        return None


@dataclass(frozen=True, slots=True)
class Json(_Fields):
    """The pair stands in a JSON object. The document is read to its end.

    Args:
        ticket: The ticket's key; a dot leads into an object, as in `"captcha.ticket"`.
        randstr: The randstr's key, likewise.
    """

    def parser(self, content_type: str) -> Parser | None:
        """Return a parser for `application/json` and every `+json`."""
        media_type = _media_type(content_type)
        if media_type == "application/json" or media_type.endswith("+json"):
            return Whole(lambda body: json_fields(body, self.ticket, self.randstr))
        return None


def _check_names(ticket: str, randstr: str) -> None:
    if not ticket or not randstr or ticket == randstr:
        raise ConfigurationError(
            f"ticket and randstr need two different names, not {ticket!r} and {randstr!r}"
        )


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


DEFAULT_SOURCES = (Header(), Form(), Json())


def as_sources(given: object) -> tuple[Source, ...]:
    """Return sources from a list of them; a function may stand for one, or for the list.

    Raises:
        ConfigurationError: There is none, or something else among them.
    """
    every = given if isinstance(given, Sequence) else [given]
    if not every:
        raise ConfigurationError("sources is empty: name at least one, such as [Header()]")
    return tuple(_as_source(one) for one in every)


def _as_source(given: object) -> Source:
    if isinstance(given, Source):
        return given
    if isinstance(given, type) or not callable(given):
        raise ConfigurationError(
            f"{given!r} is no source: use Header(), Form(), Json(), Query(), "
            "Cookie() or a function"
        )
    return Function(given)


def body_parser(
    sources: Iterable[Source], request: Request, *, needs_randstr: bool = True
) -> Parser | None:
    """Return the parser of the first source that reads the request's body, if any does.

    Args:
        sources: Where the pair may stand.
        request: The request's head.
        needs_randstr: Whether a ticket is good only with its randstr.

    Raises:
        RequestBodyError: The body cannot be read at all.
    """
    content_type = next(iter(request.header("Content-Type")), "")
    parsers = (
        source.parser(content_type) if needs_randstr else source.ticket_parser(content_type)
        for source in sources
    )
    parser = next((parser for parser in parsers if parser is not None), None)
    if parser is not None and set(request.header("Content-Encoding")) - {"", "identity"}:
        raise RequestBodyError("the body is compressed: send the ticket in the headers")
    return parser
