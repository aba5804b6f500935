"""Extract: where a request may carry the pair of ticket and randstr, and how it is read there.

A source that stands in the request's head is asked with the head alone. A source that
stands in the body gives a parser, which is fed the body piece by piece and stops as soon as
it can. Bad bytes never raise: they end in a `Reason`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tcaptcha_middleware.bodies import Multipart, Whole, form_fields, json_fields
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.pairs import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.bodies import Parser
    from tcaptcha_middleware.models import Request
    from tcaptcha_middleware.pairs import Pair


class HeadSource(Protocol):
    """A place in the request's head."""

    def find(self, request: Request) -> Seen:
        """Return what the head holds."""
        ...


class BodySource(Protocol):
    """A place in bodies of some media types."""

    def parser(self, content_type: str) -> Parser | None:
        """Return a parser for such a body, or None where this source does not read it.

        Args:
            content_type: The request's `Content-Type`, with its parameters.

        Raises:
            RequestBodyError: Such a body cannot be read at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class Header:
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
class Query:
    """The pair stands in the query string. Such tickets end up in access logs.

    Args:
        ticket: The parameter that holds the ticket.
        randstr: The parameter that holds the randstr.
    """

    ticket: str = "ticket"
    randstr: str = "randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket, self.randstr)

    def find(self, request: Request) -> Seen:
        """Return every value of both parameters."""
        return form_fields(request.query, self.ticket, self.randstr)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of your own finds the pair in the request's head.

    Args:
        function: Gets the `Request`; returns ticket and randstr, or None.
    """

    function: Callable[[Request], Pair | None]

    def find(self, request: Request) -> Seen:
        """Return what the function found."""
        pair = self.function(request)
        return Seen() if pair is None else Seen([pair[0]], [pair[1]])


@dataclass(frozen=True, slots=True)
class Form:
    """The pair stands in two fields of an HTML form, urlencoded or multipart.

    An urlencoded form is read to its end, because a later duplicate would make it ambiguous.
    A multipart form, which may carry an upload, is read up to the second half only.

    Args:
        ticket: The field that holds the ticket.
        randstr: The field that holds the randstr.
    """

    ticket: str = "ticket"
    randstr: str = "randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket, self.randstr)

    def parser(self, content_type: str) -> Parser | None:
        """Return a parser for both kinds of form."""
        media_type = _media_type(content_type)
        if media_type == "application/x-www-form-urlencoded":
            return Whole(lambda body: form_fields(body, self.ticket, self.randstr))
        if media_type == "multipart/form-data":
            return Multipart(content_type, self.ticket, self.randstr)
        return None


@dataclass(frozen=True, slots=True)
class Json:
    """The pair stands in a JSON object. The document is read to its end.

    Args:
        ticket: The ticket's key; a dot leads into an object, as in `"captcha.ticket"`.
        randstr: The randstr's key, likewise.
    """

    ticket: str = "ticket"
    randstr: str = "randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket, self.randstr)

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


Source = HeadSource | BodySource
DEFAULT_SOURCES: tuple[Source, ...] = (Header(), Form(), Json())
