"""What can be set, for a whole guard or for one rule, and what cannot work.

Holds values and their checks; the walk that they steer stands in `guard`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tcaptcha_middleware.addresses import peer_address
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.tickets import DEFAULT_SOURCES, as_sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.models import Refuse, Request, Ticket, Verdict
    from tcaptcha_middleware.tickets import Source

Colour = Literal["sync", "async"]


class SyncVerifier(Protocol):
    """A verifier for the WSGI face."""

    def verify(self, ticket: Ticket, /) -> Verdict:
        """Return what Tencent, or whoever stands in, says of `ticket`.

        Raises:
            VerifierError: No verdict could be had.
        """
        ...


class AsyncVerifier(Protocol):
    """A verifier for the ASGI face."""

    async def averify(self, ticket: Ticket, /) -> Verdict:
        """Same as `SyncVerifier.verify`, but awaited."""
        ...


Verifier = SyncVerifier | AsyncVerifier
_METHODS: dict[Colour, str] = {"sync": "verify", "async": "averify"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What holds for a rule's requests, whether the rule says so or the guard does.

    Args:
        verifier: Who checks a ticket.
        sources: Where the pair is looked for, in this order; the body comes last.
        client_ip: Tells the visitor's address from the `Request`.
        responder: Makes the answer to a refused request; None for problem+json.
        body_limit: How much of a body is read in search of the pair, in bytes.
        body_timeout: How long a client may take to send that much, in seconds.

    Raises:
        ConfigurationError: One of them cannot work; says which, and how to mend it.
    """

    verifier: Verifier
    sources: Sequence[Source] = DEFAULT_SOURCES
    client_ip: Callable[[Request], str] = peer_address
    responder: Callable[[Request, Refuse], Any] | None = None
    body_limit: int = 64 * 1024
    body_timeout: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check_verifier(self.verifier)
        object.__setattr__(self, "sources", as_sources(self.sources))
        for name in ("client_ip", "responder"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ConfigurationError(f"{name} has to be a function, not {value!r}")
            if inspect.iscoroutinefunction(value):
                raise ConfigurationError(f"{name} is async: make it a plain function")
        for name in ("body_limit", "body_timeout"):
            _check_positive(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule text, with what is different for its requests.

    Args:
        text: What to protect: `"POST /login"`, `"POST,PUT /users/{id}/email"`,
            `"/admin/**"` (that path and all below, every method). `{x}` is one segment.
            `GET` means `HEAD` too. A CORS preflight passes unless the rule names `OPTIONS`.
        name: How the rule is called in decisions and logs; the text by default.
        verifier: As in `Settings`, and so are the rest; None where the guard's holds.
        sources: See `Settings`.
        client_ip: See `Settings`.
        responder: See `Settings`.
        body_limit: See `Settings`; in bytes.
        body_timeout: See `Settings`; in seconds.
    """

    text: str
    name: str = ""
    verifier: Verifier | None = None
    sources: Sequence[Source] | None = None
    client_ip: Callable[[Request], str] | None = None
    responder: Callable[[Request, Refuse], Any] | None = None
    body_limit: int | None = None
    body_timeout: float | None = None

    @property
    def overrides(self) -> dict[str, Any]:
        """What the rule says itself."""
        own = {item.name: getattr(self, item.name) for item in fields(Settings)}
        return {name: value for name, value in own.items() if value is not None}


def as_rule(given: object) -> Rule:
    """Return a rule from its text, or as it is.

    Raises:
        ConfigurationError: It is neither.
    """
    if isinstance(given, Rule):
        return given
    if isinstance(given, str):
        return Rule(given)
    raise ConfigurationError(
        f'{given!r} is no rule: write "POST /login" or Rule("POST /login")'
    )


def require(colour: Colour, verifier: object) -> None:
    """Check that `verifier` can serve a face.

    Raises:
        ConfigurationError: It is of the other colour.
    """
    name = _METHODS[colour]
    method = getattr(verifier, name, None)
    kind = type(verifier).__name__
    if not callable(method):
        mend = (
            "wrap it in in_thread(…), or use an async one"
            if colour == "async"
            else "use a synchronous one"
        )
        raise ConfigurationError(f"{kind} has no {name}, which this face calls: {mend}")
    if colour == "sync" and inspect.iscoroutinefunction(method):
        raise ConfigurationError(f"{kind}.verify is async: call it averify")


def _check_verifier(verifier: object) -> None:
    if isinstance(verifier, type):
        raise ConfigurationError(
            f"verifier is the class {verifier.__name__}: hand in an instance of it"
        )
    if not any(callable(getattr(verifier, name, None)) for name in _METHODS.values()):
        raise ConfigurationError(
            f"verifier is {type(verifier).__name__}, which has neither verify nor averify"
        )


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"{name} is {value!r}: it has to be a number above 0")


def check_list(name: str, value: object) -> None:
    """Check a list of rules.

    Raises:
        ConfigurationError: It is none, or empty.
    """
    if isinstance(value, (str, Rule)) or not isinstance(value, Sequence):
        raise ConfigurationError(f'{name} has to be a list, such as ["POST /login"]')
    if not value:
        raise ConfigurationError(
            f'{name} is empty, so nothing is protected: name "POST /login"'
        )


def check_names(names: Sequence[str]) -> None:
    """Check that every rule can be told from the others.

    Raises:
        ConfigurationError: Two have one name.
    """
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"two rules are called {name!r}: give one a name= of its own"
            )
