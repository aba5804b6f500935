"""What can be set, for a whole guard or for one rule.

Holds values; the checks stand in `checks`, the walk that they steer stands in `guard`.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tcaptcha_middleware.client_ip import peer_address, usable
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.sources import DEFAULT_SOURCES, as_sources
from tcaptcha_middleware.validation import (
    check_count,
    check_function,
    check_instance,
    check_percent,
    check_plain_function,
    check_positive,
    check_timeout,
    check_word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.models import Refuse, RequestInfo, Submission, Verdict


class SyncVerifier(Protocol):
    """A verifier for the WSGI face. It keeps a deadline of its own: nobody can end it.

    One for tickets of mini-programs says so by an attribute:
    `action = tcaptcha_middleware.tencent.actions.MINI_PROGRAM`. Pages can show a captcha where
    there are `app_id` and `script`, as `TencentVerifier` has them, with `site="intl"` for a
    script of the international site; `disaster_tickets` needs the `app_id` too, and
    `Page(aid=…)` the `captcha`.
    """

    def verify(self, ticket: Submission, /) -> Verdict:
        """Return what Tencent, or whoever stands in, says of `ticket`.

        Raises:
            OutageError: Nobody answers. A `TimeoutError` counts as one.
            VerifierError: No verdict could be had for another reason.
        """
        ...


class AsyncVerifier(Protocol):
    """A verifier for the ASGI face."""

    async def averify(self, ticket: Submission, /) -> Verdict:
        """Same as `SyncVerifier.verify`, but awaited."""
        ...


Verifier = SyncVerifier | AsyncVerifier


class SyncReplayStore(Protocol):
    """a replay store for the WSGI face."""

    def claim(self, key: str, seconds: float, /) -> bool:
        """Claim `key` for so many seconds; True for the first who asks.

        Raises:
            ReplayStoreError: The store cannot tell.
        """
        ...


class AsyncReplayStore(Protocol):
    """a replay store for the ASGI face."""

    async def aclaim(self, key: str, seconds: float, /) -> bool:
        """Same as `SyncReplayStore.claim`, but awaited."""
        ...


ReplayStore = SyncReplayStore | AsyncReplayStore


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What holds for a rule's requests, whether the rule says so or the guard does.

    Args:
        sources: Where the pair is looked for, in this order; the body comes last. Pages are
            told the first `Header` and the first `Form` of them.
        client_ip: Tells the visitor's address from the `RequestInfo`; the peer's by default.
        fallback_ip: Sent to Tencent where no valid address is known; None refuses instead.
        responder: Makes the denial response from the `RequestInfo` and the `Refuse`:
            an ASGI or WSGI application, or a `PlainResponse`. None for problem+json.
        body_limit: How much of a body is read in search of the pair, in bytes.
        body_timeout: How long a client may take to send that much, in seconds. Some WSGI
            servers block in a read that nobody can end; there, and under WSGI where a rule only
            observes, it is looked at between the pieces.
        check_timeout: How long a claim and a check may take together, in seconds; the claim
            takes half of it at most. `when` may take as long again. Nobody can end a blocking
            call, so that under WSGI it is theirs to keep.
        mode: `"observe"` checks and reports, and lets everyone through.
        percent: For how many of a hundred visitors `"enforce"` holds; the others are
            observed. One visitor's address is always treated the same.
        when: Tells from the `RequestInfo` whether it has to be checked at all; may be async
            under ASGI. What it looks at must not be the client's to choose. If it fails, the
            request is refused.
        on_unavailable: `"allow"` lets requests through while Tencent is down, and only then.
        disaster_tickets: `"allow"` accepts them while our own calls say that Tencent is down,
            one a minute from an address, if they are fresh and of the verifier's captcha.
        allow_per_minute: How many requests these two may let through in a minute.

    Raises:
        ConfigurationError: One of them cannot work; says which, and how to mend it.
    """

    sources: Sequence[Source] = DEFAULT_SOURCES
    client_ip: Callable[[RequestInfo], str] = peer_address
    fallback_ip: str | None = "127.0.0.1"
    responder: Callable[[RequestInfo, Refuse], Any] | None = None
    body_limit: int = 64 * 1024
    body_timeout: float = 10.0
    check_timeout: float = 10.0
    mode: Literal["enforce", "observe"] = "enforce"
    percent: int = 100
    when: Callable[[RequestInfo], Any] | None = None
    on_unavailable: Literal["deny", "allow"] = "deny"
    disaster_tickets: Literal["deny", "allow"] = "deny"
    allow_per_minute: int = 60

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        object.__setattr__(self, "sources", as_sources(self.sources))
        check_instance("client_ip", self.client_ip)
        check_plain_function("client_ip", self.client_ip)
        if self.responder is not None:
            check_plain_function("responder", self.responder)
        if self.when is not None:
            check_function("when", self.when)
        check_positive("body_timeout", self.body_timeout)
        check_timeout(self.check_timeout, "check_timeout")
        for name in ("body_limit", "allow_per_minute"):
            check_count(name, getattr(self, name))
        for name, words in _WORDS.items():
            check_word(name, getattr(self, name), words)
        check_percent("percent", self.percent)
        if self.fallback_ip is not None and usable(self.fallback_ip) is None:
            raise ConfigurationError(
                f"fallback_ip is {self.fallback_ip!r}, which is no address: "
                "write one, or None to refuse"
            )


_WORDS = {
    "mode": ("enforce", "observe"),
    "on_unavailable": ("deny", "allow"),
    "disaster_tickets": ("deny", "allow"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule text, with what is different for its requests.

    None means the guard's own; so it cannot take away the guard's `responder` or `when`, for
    which a function of the rule's own can.

    Args:
        text: What to protect: `"POST /login"`, `"POST,PUT /users/{id}/email"`,
            `"/admin/**"` (that path and all below, every method). `{x}` is one segment.
            `GET` means `HEAD` too. A CORS preflight passes unless the rule names `OPTIONS`.
        name: How the rule is called in decisions and logs; the text by default.
        verifier: Who checks its tickets; None where the guard's verifier does.
        sources: See `Settings`, and so for the rest.
        client_ip: See `Settings`.
        fallback_ip: See `Settings`.
        responder: See `Settings`.
        body_limit: See `Settings`; in bytes.
        body_timeout: See `Settings`; in seconds.
        check_timeout: See `Settings`; in seconds.
        mode: See `Settings`.
        percent: See `Settings`.
        when: See `Settings`.
        on_unavailable: See `Settings`.
        disaster_tickets: See `Settings`.
        allow_per_minute: See `Settings`.
    """

    text: str
    _: KW_ONLY
    name: str = ""
    verifier: Verifier | None = None
    sources: Sequence[Source] | None = None
    client_ip: Callable[[RequestInfo], str] | None = None
    fallback_ip: str | None = None
    responder: Callable[[RequestInfo, Refuse], Any] | None = None
    body_limit: int | None = None
    body_timeout: float | None = None
    check_timeout: float | None = None
    mode: Literal["enforce", "observe"] | None = None
    percent: int | None = None
    when: Callable[[RequestInfo], Any] | None = None
    on_unavailable: Literal["deny", "allow"] | None = None
    disaster_tickets: Literal["deny", "allow"] | None = None
    allow_per_minute: int | None = None

    def over(self, guard: Settings) -> Settings:
        """Return the guard's settings with the rule's own over them.

        Raises:
            ConfigurationError: One of them cannot work.
        """
        merged = {}
        for item in fields(Settings):
            own = getattr(self, item.name)
            merged[item.name] = getattr(guard, item.name) if own is None else own
        return Settings(**merged)


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
