"""Sources: the places of a request that may contain the pair of ticket and randstr.

Head sources read the request's head. Body sources read a body that the extractor has parsed,
so several of them share one parser. No source reads from the client.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from tcaptcha_middleware.errors import ConfigurationError, MisconfiguredError
from tcaptcha_middleware.extraction.pairs import NOTHING, Invalid, PartialPair, combine
from tcaptcha_middleware.extraction.parsers import MAX_REPEATS, JsonObject, fields_named
from tcaptcha_middleware.validation import validate_plain_function

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.extraction.pairs import Pair, Value
    from tcaptcha_middleware.extraction.parsers import FormFields
    from tcaptcha_middleware.models import RequestInfo


_FORMS = {"application/x-www-form-urlencoded": "urlencoded", "multipart/form-data": "multipart"}
_PAIR = 2

KINDS = frozenset(("json", "urlencoded", "multipart"))
"""The kinds of bodies that can be read."""


class HeadSource(ABC):
    """A place in a request's head that may contain the pair."""

    __slots__ = ()

    @abstractmethod
    def find(self, request: RequestInfo) -> PartialPair:
        """Return what the request's head contains."""


class BodySource(ABC):
    """A place in a request's body that may contain the pair.

    Attributes:
        kinds: Which of `KINDS` it reads.
    """

    __slots__ = ()
    kinds: ClassVar[frozenset[str]]

    @abstractmethod
    def find(self, request: RequestInfo, body: Any) -> PartialPair:
        """Return what the body contains.

        Args:
            request: The request's head.
            body: The decoded JSON, or the fields of a form.
        """


Source = HeadSource | BodySource


@dataclass(frozen=True, slots=True)
class Header(HeadSource):
    """The pair is in two request headers.

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


def _listed(request: RequestInfo, name: str) -> Value:
    values = request.header(name)
    if len(values) == 1 and "," not in values[0]:
        return values[0].strip() or None
    parts = ",".join(values).split(",", MAX_REPEATS)
    listed: list[object] = [part.strip() for part in parts[:MAX_REPEATS]]
    # The rest of so many values is not a ticket.
    return combine(listed if len(parts) <= MAX_REPEATS else [*listed, Invalid.NOT_TEXT])


@dataclass(frozen=True, slots=True)
class _Fields:
    """Two fields, each with its name."""

    ticket: str = "ticket"
    randstr: str = "randstr"

    def __post_init__(self) -> None:
        """Check both names."""
        _check_names(self.ticket, self.randstr)

    @property
    def names(self) -> frozenset[str]:
        """Both names."""
        return frozenset((self.ticket, self.randstr))


class Query(_Fields, HeadSource):
    """The pair is in the query string. Such tickets end up in access logs.

    Args:
        ticket: The parameter that holds the ticket.
        randstr: The parameter that holds the randstr.
    """

    __slots__ = ()

    def find(self, request: RequestInfo) -> PartialPair:
        """Return every value of both parameters."""
        fields = fields_named(request.query, self.names) if request.query else []
        return _named(fields, self.ticket, self.randstr)


@dataclass(frozen=True, slots=True)
class Head(HeadSource):
    """A function finds the pair in the request's head.

    Args:
        function: Gets the `RequestInfo`; returns ticket and randstr, or None. The randstr is
            `""` if the ticket needs none. If it raises, the request is refused as
            misconfigured. It cannot be async.

    Raises:
        ConfigurationError: If `function` is async or not a function.
    """

    function: Callable[[RequestInfo], Pair | None]

    def __post_init__(self) -> None:
        """Check the function."""
        validate_plain_function("Head", self.function)

    def find(self, request: RequestInfo) -> PartialPair:
        """Return what the function returned."""
        return _returned("Head", self.function(request))


class Form(_Fields, BodySource):
    """The pair is in two fields of an HTML form, urlencoded or multipart.

    An urlencoded form is read to its end, because a later duplicate would make it ambiguous.
    A multipart form, which may contain an upload, is read until one source has its pair.

    Args:
        ticket: The field that holds the ticket.
        randstr: The field that holds the randstr.
    """

    __slots__ = ()
    kinds: ClassVar[frozenset[str]] = frozenset(("urlencoded", "multipart"))

    def find(self, request: RequestInfo, body: FormFields) -> PartialPair:  # noqa: ARG002  the fields are all that it needs
        """Return every value of both fields."""
        return _named(body, self.ticket, self.randstr)


class Json(_Fields, BodySource):
    """The pair is in a JSON object. The document is read to its end.

    Args:
        ticket: The ticket's key; a dot leads into an object, as in `"captcha.ticket"`.
        randstr: The randstr's key; a dot leads into an object.

    Raises:
        ConfigurationError: If a key is empty, both are the same, or one is a JSONPath.
    """

    __slots__ = ()
    kinds: ClassVar[frozenset[str]] = frozenset(("json",))

    def __post_init__(self) -> None:
        """Check both keys."""
        _check_names(self.ticket, self.randstr)
        for name in (self.ticket, self.randstr):
            if name.startswith(("$.", "$[")):
                raise ConfigurationError(
                    f"{name!r} is a JSONPath: write it without the $; a dot leads into an "
                    'object, as in "captcha.ticket"'
                )

    def find(self, request: RequestInfo, body: object) -> PartialPair:  # noqa: ARG002  the document is all that it needs
        """Return every value at both keys."""
        return PartialPair(_value_at(body, self.ticket), _value_at(body, self.randstr))


def _value_at(document: object, path: str) -> Value:
    values = [document]
    for key in path.split("."):
        found = list[object]()
        for parent in values:
            if isinstance(parent, dict):
                if key in parent:
                    found.append(parent[key])
            elif isinstance(parent, JsonObject):
                found += [value for name, value in parent if name == key]
        values = found
    if len(values) == 1 and isinstance(values[0], str):
        return values[0] or None  # as nearly always
    return combine(values)


@dataclass(frozen=True, slots=True)
class Body(BodySource):
    """A function finds the pair in the request's body.

    For one field with both values, a JSON text in a form field, arrays, or a check such as
    refusing GraphQL batches. The body is read to its end, up to `body_limit`; only if another
    source has its pair in a multipart form before that, the function is not called.

    Args:
        function: Gets the `RequestInfo` and the body: JSON as decoded, in which a key that is
            repeated is refused and an integer of more than 640 digits is a float; or a form as
            a list of pairs of name and value, without files. Returns ticket and randstr, or
            None. The randstr is `""` if the ticket needs none. If it raises, the request is
            refused as misconfigured. It cannot be async.

    Raises:
        ConfigurationError: If `function` is async or not a function.
    """

    function: Callable[[RequestInfo, Any], Pair | None]
    kinds: ClassVar[frozenset[str]] = KINDS

    def __post_init__(self) -> None:
        """Check the function."""
        validate_plain_function("Body", self.function)

    def find(self, request: RequestInfo, body: Any) -> PartialPair:
        """Return what the function returned."""
        return _returned("Body", self.function(request, body))


def _returned(source: str, pair: object) -> PartialPair:
    if pair is None:
        return NOTHING
    if not isinstance(pair, (tuple, list)) or len(pair) != _PAIR:
        raise MisconfiguredError(
            f"the function of {source} returned {type(pair).__name__}: "
            "return (ticket, randstr) or None"
        )
    # A value that is not text comes from the client, so it is not a misconfiguration.
    return PartialPair(combine([pair[0]]), combine([pair[1]]))


def _named(fields: FormFields, ticket: str, randstr: str) -> PartialPair:
    return PartialPair(
        combine([value for name, value in fields if name == ticket]),
        combine([value for name, value in fields if name == randstr]),
    )


@lru_cache(maxsize=128)
def body_kind(media_type: str) -> str | None:
    """Return which kind of body a media type names, or None if no source reads it."""
    media_type = media_type.strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        return "json"
    return _FORMS.get(media_type)


def _check_names(ticket: str, randstr: str) -> None:
    if not ticket or not randstr or ticket == randstr:
        raise ConfigurationError(
            f"ticket and randstr need two different names, not {ticket!r} and {randstr!r}"
        )


DEFAULT_SOURCES = (Header(), Form(), Json())


def as_sources(value: object) -> tuple[Source, ...]:
    """Return sources from one or a list of them; a plain function is a `Head`.

    Raises:
        ConfigurationError: If the list is empty or contains anything else.
    """
    every = value if isinstance(value, Sequence) else [value]
    if not every:
        raise ConfigurationError("sources is empty: name at least one, such as [Header()]")
    sources: list[Source] = []
    for source in every:
        if isinstance(source, (HeadSource, BodySource)):
            sources.append(source)
        elif callable(source) and not isinstance(source, type):
            sources.append(Head(source))
        else:
            raise ConfigurationError(
                f"{source!r} is not a source: use Header(), Form(), Json(), Query(), "
                "Head(function) or Body(function)"
            )
    return tuple(sources)
