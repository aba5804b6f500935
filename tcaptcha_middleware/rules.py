"""Rules at work: each with its pattern, its verifier, its settings and its shared state."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.extractor import Extractor
from tcaptcha_middleware.extraction.sources import check_findable
from tcaptcha_middleware.health.budget import Budget
from tcaptcha_middleware.matching.patterns import parse
from tcaptcha_middleware.replay.memory import MemoryReplayStore
from tcaptcha_middleware.resilience.upstream import Upstream
from tcaptcha_middleware.settings import as_rule
from tcaptcha_middleware.tencent.actions import action_of
from tcaptcha_middleware.validation import (
    check_count,
    check_list,
    check_names,
    check_some,
    check_verifier,
    check_word,
    is_async,
    require,
    require_replay_store,
    validate_replay_store,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tcaptcha_middleware.matching.patterns import Pattern
    from tcaptcha_middleware.settings import ReplayStore, Rule, Settings, Verifier
    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.validation import CallStyle


@dataclass(frozen=True, slots=True)
class Shared:
    """What all rules of a guard share.

    Attributes:
        claims: Who may spend a ticket.
        on_replay_store_error: What is done while nobody can tell.
        max_checks: How many checks a verifier may have under way.

    Raises:
        ConfigurationError: One of them cannot work.
    """

    replay_store: ReplayStore
    on_replay_store_error: Literal["verify", "deny"]
    max_checks: int

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validate_replay_store(self.replay_store)
        check_word("on_replay_store_error", self.on_replay_store_error, ("verify", "deny"))
        check_count("max_checks", self.max_checks)


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule at work: what holds for the requests that it covers.

    Attributes:
        name: The rule's name.
        pattern: Which requests it covers.
        verifier: Who checks their tickets.
        action: By which of Tencent's actions.
        settings: The guard's settings with the rule's own over them.
        upstream: The verifier's health, shared with the other rules that ask it.
        shared: What the rule shares with all others.
        budget: How many may be let through unchecked.
        strangers: Addresses that were let through with a disaster ticket.
        disasters: Disaster tickets that were let through.
        preflight: Whether CORS preflights are among what it covers, and pass unchecked: only
            where the rule names no method.
        extraction: Finds the pair in a request.
    """

    name: str
    pattern: Pattern
    verifier: Verifier = field(repr=False)
    action: Action = field(repr=False)
    settings: Settings = field(repr=False)
    upstream: Upstream = field(repr=False)
    shared: Shared = field(repr=False)
    budget: Budget = field(repr=False)
    disaster_per_ip: MemoryReplayStore = field(repr=False, default_factory=MemoryReplayStore)
    disaster_seen: MemoryReplayStore = field(repr=False, default_factory=MemoryReplayStore)
    preflight: bool = field(init=False, repr=False)
    extraction: Extractor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Work out once what every request asks."""
        object.__setattr__(self, "preflight", not self.pattern.methods)
        needs_randstr = self.action.needs_randstr
        extraction = Extractor(self.settings, needs_randstr=needs_randstr)
        object.__setattr__(self, "extraction", extraction)

    @property
    def app_id(self) -> int:
        """CaptchaAppId of the verifier's captcha."""
        return getattr(self.verifier, "app_id", 0)


def compile_rules(
    rules: Sequence[Rule | str], guard: Settings, verifier: Verifier, shared: Shared
) -> tuple[CompiledRule, ...]:
    """Put rules to work.

    Args:
        rules: Rule texts and rules.
        guard: What holds where a rule says nothing.
        verifier: Who checks tickets where a rule says nothing.
        shared: What all rules share.

    Raises:
        ConfigurationError: Something cannot work; says in which rule.
    """
    check_list("rules", rules)
    check_some("rules", rules)
    upstreams: dict[int, Upstream] = {}
    found = []
    for rule in map(as_rule, rules):
        asked = verifier if rule.verifier is None else rule.verifier
        upstream = upstreams.setdefault(id(asked), Upstream(shared.max_checks))
        found.append(_cover(rule, guard, asked, upstream, shared))
    _check_once(found)
    check_names([coverage.name for coverage in found])
    return tuple(found)


def exemptions(texts: Sequence[str]) -> list[Pattern]:
    """Parse what is never covered.

    Raises:
        ConfigurationError: One is no rule text, or covers everything.
    """
    check_list("exempt", texts)
    with _naming("exempt"):
        found = [parse(text) for text in texts]
    if any(pattern.is_everything for pattern in found):
        raise ConfigurationError("exempt has /**, so nothing is protected: name less")
    return found


def _cover(
    rule: Rule, guard: Settings, verifier: Verifier, upstream: Upstream, shared: Shared
) -> CompiledRule:
    pattern, name = parse(rule.text), rule.name or rule.text
    with _naming(name):
        settings = rule.over(guard)
        _check(pattern, settings, verifier)
        return CompiledRule(
            name=name,
            pattern=pattern,
            verifier=verifier,
            action=action_of(verifier),
            settings=settings,
            upstream=upstream,
            shared=shared,
            budget=Budget(settings.allow_per_minute),
        )


@contextmanager
def _naming(what: str) -> Iterator[None]:
    """Say what it is that cannot work: which rule, or that it is an exemption.

    Raises:
        ConfigurationError: The one that was raised inside, with that before it.
    """
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{what}: {error}") from error


def _check(pattern: Pattern, settings: Settings, verifier: Verifier) -> None:
    check_verifier(verifier)
    check_findable(settings.sources, pattern.methods)
    if settings.disaster_tickets == "allow" and not hasattr(verifier, "app_id"):
        raise ConfigurationError(
            f"disaster_tickets can be allowed only where the captcha is known: "
            f"{type(verifier).__name__} has no app_id"
        )


def _check_once(compiled_rules: Sequence[CompiledRule]) -> None:
    patterns: set[Pattern] = set()
    for coverage in compiled_rules:
        if coverage.pattern in patterns:
            raise ConfigurationError(
                f"{coverage.name} is listed twice: the second could never hold"
            )
        patterns.add(coverage.pattern)


def require_style(
    style: CallStyle, compiled_rules: Sequence[CompiledRule], replay_store: ReplayStore
) -> None:
    """Check that everything a face of this colour has to call is of it.

    Raises:
        ConfigurationError: Something is of the other colour.
    """
    require_replay_store(style, replay_store)
    for coverage in compiled_rules:
        with _naming(coverage.name):
            require(style, coverage.verifier)
            if style == "sync" and is_async(coverage.settings.when):
                raise ConfigurationError("when is async: under WSGI make it a plain function")
