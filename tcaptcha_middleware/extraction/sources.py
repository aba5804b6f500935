"""Extract: where a request may carry the pair of ticket and randstr, and how it is read there.

A source that stands in the request's head is asked with the head alone. A source that
stands in the body gives a parser, which is fed the body piece by piece and stops as soon as
it can.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.pairs import NOTHING, PartialPair, half
from tcaptcha_middleware.extraction.parsers import (
    Multipart,
    Whole,
    form_fields,
    json_fields,
    named,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.extraction.pairs import Half, Pair
    from tcaptcha_middleware.extraction.parsers import Parser
    from tcaptcha_middleware.models import RequestInfo


# https://www.rfc-editor.org/rfc/rfc6265bis#section-4.1.3.2
_HOST = "__Host-"
_SAFE = ("GET", "HEAD")
_URLENCODED, _MULTIPART = "application/x-www-form-urlencoded", "multipart/form-data"


class HeadSource(ABC):
    """A place in a request's head where the pair may stand."""

    __slots__ = ()

    @abstractmethod
    def find(self, request: RequestInfo) -> PartialPair:
        """Return what the request's head holds."""


class BodySource(ABC):
    """A place in a request's body where the pair may stand."""

    __slots__ = ()

    @abstractmethod
    def parser(self, content_type: str, *, needs_randstr: bool) -> Parser | None:
        """Return a parser for a body of this type, or None where it reads none such.

        Args:
            content_type: The request's `Content-Type`, with its parameters.
            needs_randstr: Whether a ticket is good only with its randstr; where it is not,
                the parser may stop at the ticket.

        Raises:
            RequestBodyError: Such a body cannot be read at all.
        """


Source = HeadSource | BodySource


@dataclass(frozen=True, slots=True)
class Header(HeadSource):
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

    def find(self, request: RequestInfo) -> PartialPair:
        """Return every value; a comma joins repeated headers (RFC 9110, section 5.3)."""
        return PartialPair(_listed(request, self.ticket), _listed(request, self.randstr))


def _listed(request: RequestInfo, name: str) -> Half:
    values = ",".join(request.header(name))
    return half([part.strip() for part in values.split(",")])


@dataclass(frozen=True, slots=True)
class _Fields:
    """Two fields, each with its name."""

    ticket: str = "ticket"
    randstr: str = "randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket, self.randstr)


@dataclass(frozen=True, slots=True)
class Query(_Fields, HeadSource):
    """The pair stands in the query string. Such tickets end up in access logs.

    Args:
        ticket: The parameter that holds the ticket.
        randstr: The parameter that holds the randstr.
    """

    def find(self, request: RequestInfo) -> PartialPair:
        """Return every value of both parameters."""
        return form_fields(request.query, self.ticket, self.randstr)


@dataclass(frozen=True, slots=True)
class Cookie(HeadSource):
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

    def find(self, request: RequestInfo) -> PartialPair:
        """Return every value of both cookies."""
        if request.kind != "http" or request.method.upper() not in _SAFE:
            return NOTHING
        pairs = [_cookie(text) for value in request.header("Cookie") for text in _parts(value)]
        own = named(pairs, f"{_HOST}{self.ticket}", f"{_HOST}{self.randstr}")
        return own if own.complete else named(pairs, self.ticket, self.randstr)


def _parts(value: str) -> list[str]:
    # A comma is where WSGI servers join two headers; inside an encoded value there is none.
    return re.split("[;,]", value)


def _cookie(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), unquote(value.strip())


@dataclass(frozen=True, slots=True)
class Head(HeadSource):
    """A function of your own finds the pair in the request's head.

    Args:
        function: Gets the `RequestInfo`; returns ticket and randstr, or None. The randstr is
            `""` if the ticket needs none.
    """

    function: Callable[[RequestInfo], Pair | None]

    def find(self, request: RequestInfo) -> PartialPair:
        """Return what the function found."""
        pair = self.function(request)
        return NOTHING if pair is None else PartialPair(half([pair[0]]), half([pair[1]]))


@dataclass(frozen=True, slots=True)
class Form(_Fields, BodySource):
    """The pair stands in two fields of an HTML form, urlencoded or multipart.

    An urlencoded form is read to its end, because a later duplicate would make it ambiguous.
    A multipart form, which may carry an upload, is read up to the second half only, or up to
    the ticket where that needs no randstr.

    Args:
        ticket: The field that holds the ticket.
        randstr: The field that holds the randstr.
    """

    def parser(self, content_type: str, *, needs_randstr: bool) -> Parser | None:
        """Return a parser for either kind."""
        kind, names = media_type(content_type), (self.ticket, self.randstr)
        if kind == _MULTIPART:
            return Multipart(content_type, *names, needs_randstr=needs_randstr)
        return Whole(form_fields, *names) if kind == _URLENCODED else None


@dataclass(frozen=True, slots=True)
class Json(_Fields, BodySource):
    """The pair stands in a JSON object. The document is read to its end.

    Args:
        ticket: The ticket's key; a dot leads into an object, as in `"captcha.ticket"`.
        randstr: The randstr's key, likewise.
    """

    def parser(
        self,
        content_type: str,
        *,
        needs_randstr: bool,  # noqa: ARG002  it is read to its end either way
    ) -> Parser | None:
        """Return a parser for `application/json`, or a `+json`."""
        kind = media_type(content_type)
        if kind != "application/json" and not kind.endswith("+json"):
            return None
        return Whole(json_fields, self.ticket, self.randstr)


def media_type(content_type: str) -> str:
    """Return the media type of a `Content-Type`, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


def _check_names(ticket: str, randstr: str) -> None:
    if not ticket or not randstr or ticket == randstr:
        raise ConfigurationError(
            f"ticket and randstr need two different names, not {ticket!r} and {randstr!r}"
        )


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


def check_findable(sources: Sequence[Source], methods: frozenset[str]) -> None:
    """Check that requests of a rule's methods may bring the pair.

    Args:
        sources: The rule's sources.
        methods: The methods that it names; empty for every one.

    Raises:
        ConfigurationError: There are cookies alone, and no method that they count in.
    """
    cookies_alone = all(type(source) is Cookie for source in sources)
    if cookies_alone and methods and methods.isdisjoint(_SAFE):
        raise ConfigurationError(
            "cookies count in GET and HEAD alone: name another source, such as Header()"
        )


def _as_source(given: object) -> Source:
    if isinstance(given, (HeadSource, BodySource)):
        return given
    if isinstance(given, type) or not callable(given):
        raise ConfigurationError(
            f"{given!r} is no source: use Header(), Form(), Json(), Query(), "
            "Cookie() or a function"
        )
    return Head(given)
