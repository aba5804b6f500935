"""Settings of a guard or of a single rule: values only, validated at construction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from tcaptcha_middleware.client_ip import peer_address, usable
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.sources import DEFAULT_SOURCES, as_sources
from tcaptcha_middleware.validation import (
    validate_count,
    validate_function,
    validate_instance,
    validate_percent,
    validate_plain_function,
    validate_positive,
    validate_timeout,
    validate_word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.models import Refuse, RequestInfo


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that a guard has for all its rules, and a rule for its own requests.

    Args:
        sources: The places that may contain the pair, in this order; the body comes last.
            `tcaptcha.js` uses the first `Header` and the first `Form` of them.
        client_ip: Returns the visitor's address from the `RequestInfo`; the peer by default.
        fallback_ip: Sent to Tencent if no valid address is known; None refuses instead.
        responder: Makes the denial response from the `RequestInfo` and the `Refuse`:
            an ASGI or WSGI application, or a `PlainResponse`. None for problem+json.
        body_limit: How much of a body is read in search of the pair, in bytes.
        body_timeout: How long a client may take to send that much, in seconds. Some WSGI
            servers block in a read that cannot be interrupted; there, and under WSGI if a rule
            only observes, it is checked between the pieces.
        check_timeout: How long a claim and a verification may take together, in seconds; the
            claim takes half of it at most. `when` may take as long again. A blocking call
            cannot be interrupted, so under WSGI verifier and store need their own timeouts.
        mode: `"observe"` verifies and reports, and refuses no request. `"defer"` lets a marked
            view of Django answer what would be refused.
        max_score: The highest `Verdict.score` that passes, 0 (no risk) to 100; higher ones are
            refused. A verdict without a score passes. None to ignore it.
        percent: For how many of a hundred visitors `"enforce"` applies; the others are
            observed. One visitor's address is always treated the same.
        when: Decides from the `RequestInfo` if a ticket is needed: True or False; may be async
            under ASGI. What it looks at must not be the client's choice. If it fails, the
            request is refused.
        on_unavailable: `"allow"` lets requests in during an established outage, and only then.
        disaster_tickets: `"allow"` accepts them during an established outage, one a minute
            from an address, if they are fresh and of the verifier's captcha.
        allow_per_minute: How many requests these two may let in per minute.

    Raises:
        ConfigurationError: If a value is not valid; the message says which, and the fix.
    """

    sources: Sequence[Source] = DEFAULT_SOURCES
    client_ip: Callable[[RequestInfo], str] = peer_address
    fallback_ip: str | None = "127.0.0.1"
    responder: Callable[[RequestInfo, Refuse], Any] | None = None
    body_limit: int = 64 * 1024
    body_timeout: float = 10.0
    check_timeout: float = 10.0
    mode: Literal["enforce", "observe", "defer"] = "enforce"
    max_score: int | None = None
    percent: int = 100
    when: Callable[[RequestInfo], Any] | None = None
    on_unavailable: Literal["deny", "allow"] = "deny"
    disaster_tickets: Literal["deny", "allow"] = "deny"
    allow_per_minute: int = 60

    def __post_init__(self) -> None:
        """Validate every value."""
        object.__setattr__(self, "sources", as_sources(self.sources))
        validate_instance("client_ip", self.client_ip)
        validate_plain_function("client_ip", self.client_ip)
        if self.responder is not None:
            validate_plain_function("responder", self.responder)
        if self.when is not None:
            validate_function("when", self.when)
        validate_positive("body_timeout", self.body_timeout)
        validate_timeout(self.check_timeout, "check_timeout")
        for name in ("body_limit", "allow_per_minute"):
            validate_count(name, getattr(self, name))
        for name, words in _WORDS.items():
            validate_word(name, getattr(self, name), words)
        validate_percent("percent", self.percent)
        if self.max_score is not None:
            validate_percent("max_score", self.max_score)
        if self.fallback_ip is not None and usable(self.fallback_ip) is None:
            raise ConfigurationError(
                f"fallback_ip is {self.fallback_ip!r}, which is not an address: "
                "write one, or None to refuse"
            )


class RuleSettings(TypedDict, total=False):
    """The arguments of `Settings` as those of a rule, for type checkers."""

    sources: Sequence[Source] | None
    client_ip: Callable[[RequestInfo], str] | None
    fallback_ip: str | None
    responder: Callable[[RequestInfo, Refuse], Any] | None
    body_limit: int | None
    body_timeout: float | None
    check_timeout: float | None
    mode: Literal["enforce", "observe", "defer"] | None
    max_score: int | None
    percent: int | None
    when: Callable[[RequestInfo], Any] | None
    on_unavailable: Literal["deny", "allow"] | None
    disaster_tickets: Literal["deny", "allow"] | None
    allow_per_minute: int | None


_WORDS = {
    "mode": ("enforce", "observe", "defer"),
    "on_unavailable": ("deny", "allow"),
    "disaster_tickets": ("deny", "allow"),
}
