"""Rules: what to protect, and each rule compiled with its settings and its state."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from zlib import crc32

from tcaptcha_middleware.client_ip import usable
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.extractor import Extractor
from tcaptcha_middleware.health.health import Health
from tcaptcha_middleware.health.limits import Budget
from tcaptcha_middleware.matching.patterns import parse
from tcaptcha_middleware.operations import Event, log
from tcaptcha_middleware.replay.memory import MemoryReplayStore
from tcaptcha_middleware.replay.monitor import StoreMonitor
from tcaptcha_middleware.settings import Settings
from tcaptcha_middleware.validation import (
    captcha_of,
    is_async,
    require,
    require_replay_store,
    validate_count,
    validate_list,
    validate_replay_store,
    validate_single_process,
    validate_verifier,
    validate_word,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Unpack

    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.health.monitor import State
    from tcaptcha_middleware.matching.patterns import Pattern
    from tcaptcha_middleware.models import CaptchaInfo, RequestInfo
    from tcaptcha_middleware.operations import Switch
    from tcaptcha_middleware.settings import RuleSettings
    from tcaptcha_middleware.types import ReplayStore, Verifier
    from tcaptcha_middleware.validation import CallStyle

_EVERYONE = 100
_UNRELEASED = 1000
_UNUSED = MemoryReplayStore()


@dataclass(frozen=True, init=False)
class Rule:
    """A rule text, with the settings that differ for its requests.

    A rule cannot remove the guard's `responder` or `when`, but it can replace them.

    Args:
        text: What to protect: `"POST /login"`, `"POST,PUT /users/{id}/email"`,
            `"/admin/**"` (that path and all below, every method), `"UNSAFE /login"` (every
            method except GET and HEAD). `{x}` is one segment. `GET` includes `HEAD`. A CORS
            preflight passes unless the rule names `OPTIONS`.
        name: The rule's name in decisions and logs; the text by default.
        verifier: Verifies its tickets; None for the guard's verifier.
        settings: Any argument of `Settings`; None means the guard's.

    Raises:
        TypeError: If there is no such setting.
    """

    text: str
    name: str
    verifier: Verifier | None
    settings: Mapping[str, Any]

    def __init__(
        self,
        text: str,
        *,
        name: str = "",
        verifier: Verifier | None = None,
        **settings: Unpack[RuleSettings],
    ) -> None:
        for setting in settings:
            if setting not in Settings.__dataclass_fields__:
                from difflib import get_close_matches

                similar = get_close_matches(setting, Settings.__dataclass_fields__, 1)
                advice = f": did you mean {similar[0]}?" if similar else ""
                raise TypeError(f"Rule does not have a setting {setting!r}{advice}")
        own = {setting: value for setting, value in settings.items() if value is not None}
        vars(self).update(text=text, name=name, verifier=verifier, settings=own)


class DeferringRule(Rule):
    """The rule of a marked view; the only kind that may have `mode="defer"`.

    It may match requests for other handlers, too. The integration that makes it has to refuse
    what is deferred before any other handler runs.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """What all rules of a guard share.

    Attributes:
        replay_store: Lets each ticket be used once.
        on_replay_store_error: `"verify"` or `"deny"`: what follows if the store fails.
        max_checks: How many verifications may be under way at once, for each verifier.
        switch: The kill switch.
        on_event: Receives an `Event` for each decision and each change of health.
        clock: A monotonic clock, in seconds.
        wall_clock: The time of day, in Unix seconds.
        replay_monitor: Skips a store that hangs.
        unreleased: Claims that could not be released: key, token, and when they expire.
        memory: The store, if it is in memory, so a claim never waits.
        rate_limit: Limits the log lines that requests cause.

    Raises:
        ConfigurationError: If one of them is not valid.
    """

    replay_store: ReplayStore
    on_replay_store_error: Literal["verify", "deny"]
    max_checks: int
    switch: Switch
    on_event: Callable[[Event], object] | None
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    replay_monitor: StoreMonitor = field(init=False)
    unreleased: deque[tuple[str, str, float]] = field(init=False)
    memory: MemoryReplayStore | None = field(init=False)
    rate_limit: log.RateLimit = field(init=False)

    def __post_init__(self) -> None:
        """Validate what the user has set."""
        validate_replay_store(self.replay_store)
        validate_word("on_replay_store_error", self.on_replay_store_error, ("verify", "deny"))
        validate_count("max_checks", self.max_checks)
        store = self.replay_store
        memory = store if type(store) is MemoryReplayStore else None
        object.__setattr__(self, "memory", memory)
        object.__setattr__(self, "replay_monitor", StoreMonitor())
        object.__setattr__(self, "unreleased", deque(maxlen=_UNRELEASED))
        object.__setattr__(self, "rate_limit", log.RateLimit(self.clock))

    @property
    def loses_claims(self) -> bool:
        """If the store may have lost claims."""
        return getattr(self.replay_store, "loses_claims", False)


@dataclass(frozen=True, slots=True, eq=False)
class CompiledRule:
    """A rule with everything that a protected request needs.

    Attributes:
        name: The rule's name.
        pattern: Which requests it matches.
        verifier: Verifies its tickets.
        captcha: What the verifier declares about its captcha.
        settings: The guard's settings, replaced by the rule's where it has its own.
        health: The health of the verifier's service, shared by the rules that use it.
        shared: What all rules of the guard share.
        extractor: Finds the pair in a request.
        budget: How many requests may fail open.
        disaster_per_ip: Addresses that were let through with a disaster ticket.
        disaster_seen: Disaster tickets that were let through.
        passes_preflight: If CORS preflights pass unchecked: not if the rule names a method.
        always_enforces: If a refusal applies to every visitor.
    """

    name: str
    pattern: Pattern
    verifier: Verifier = field(repr=False)
    captcha: CaptchaInfo = field(repr=False)
    settings: Settings = field(repr=False)
    health: Health = field(repr=False)
    shared: Shared = field(repr=False)
    extractor: Extractor = field(repr=False)
    budget: Budget = field(init=False, repr=False)
    disaster_per_ip: MemoryReplayStore = field(init=False, repr=False)
    disaster_seen: MemoryReplayStore = field(init=False, repr=False)
    passes_preflight: bool = field(init=False, repr=False)
    always_enforces: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Compute once what every request needs."""
        # Only if they are used: 10,000 rules would have 20,000.
        accepts_disaster = self.settings.disaster_tickets == "allow"
        for name in ("disaster_per_ip", "disaster_seen"):
            store = MemoryReplayStore() if accepts_disaster else _UNUSED
            object.__setattr__(self, name, store)
        object.__setattr__(self, "budget", Budget(self.settings.allow_per_minute))
        enforces = self.settings.mode != "observe" and self.settings.percent == _EVERYONE
        object.__setattr__(self, "always_enforces", enforces)
        object.__setattr__(self, "passes_preflight", self.pattern.passes_preflights)

    @property
    def rate_limit(self) -> log.RateLimit:
        """Limits the log lines of the guard's rules."""
        return self.shared.rate_limit

    def enforces(self, request: RequestInfo) -> bool:
        """Decide whether a refusal applies to this visitor (rollout by `mode`, `percent`)."""
        if self.settings.mode == "observe" or self.always_enforces:
            return self.always_enforces
        try:
            address = self.settings.client_ip(request)
            # The address, not its text: each spelling of an address is the same visitor.
            text = usable(address) or address
            bucket = crc32(text.encode("utf-8", "surrogatepass")) % _EVERYONE
        except Exception as error:
            log.broken_hook(self, "client_ip", error)
            bucket = 0
        return self.settings.percent > bucket

    def spend_budget(self, reason: str) -> bool:
        """Take one request from the fail-open budget, log it, and return if it may pass.

        Args:
            reason: Why it may pass without a verdict, for the log.
        """
        if self.budget.spend(self.shared.clock()):
            log.let_through(self, reason)
            return True
        log.budget_spent(self, self.settings.allow_per_minute)
        return False


@dataclass(frozen=True, slots=True)
class AmbiguousTarget:
    """A request target of several readings, of which no rule can judge all.

    Attributes:
        rules: Every rule that some reading touches, in the guard's order.
    """

    rules: tuple[CompiledRule, ...]

    @property
    def name(self) -> str:
        """The first rule's name, to keep labels of metrics few."""
        return self.rules[0].name

    @property
    def shared(self) -> Shared:
        """What all rules of the guard share."""
        return self.rules[0].shared

    @property
    def rate_limit(self) -> log.RateLimit:
        """Limits the log lines of the guard's rules."""
        return self.shared.rate_limit

    @property
    def settings(self) -> Settings:
        """The first rule's settings, for the body's deadline and the responder."""
        return self.rules[0].settings

    @property
    def passes_preflight(self) -> bool:
        """If CORS preflights pass unchecked at all of the rules."""
        return all(rule.passes_preflight for rule in self.rules)

    @property
    def always_enforces(self) -> bool:
        """If a refusal applies to every visitor."""
        return any(rule.always_enforces for rule in self.rules)

    def enforces(self, request: RequestInfo) -> bool:
        """Decide whether a refusal applies to this visitor: if it does at any of the rules."""
        return any(rule.enforces(request) for rule in self.rules)


MatchedRule = CompiledRule | AmbiguousTarget
"""What judges a request: one rule, or a refusal on behalf of several."""


def compile_rules(
    rules: Sequence[Rule | str],
    guard: Settings,
    verifier: Verifier,
    shared: Shared,
    last_sources: Sequence[Source] = (),
) -> tuple[CompiledRule, ...]:
    """Compile rules in their order.

    Args:
        rules: Rule texts and rules.
        guard: The settings of the guard, for what a rule does not set itself.
        verifier: The verifier of rules that have none.
        shared: What all rules share.
        last_sources: Read after the sources of each rule.

    Raises:
        ConfigurationError: If a rule is not valid; the message names the rule.
    """
    validate_list("rules", rules)
    if not rules:
        raise ConfigurationError('rules is empty, so nothing is protected: name "POST /login"')
    defaults = guard
    if last_sources:
        defaults = replace(guard, sources=(*guard.sources, *last_sources))
    services: dict[int, tuple[CaptchaInfo, Health, list[str]]] = {}
    extractors: dict[tuple[int, bool], Extractor] = {}  # by settings, and need for a randstr
    compiled: list[CompiledRule] = []
    patterns: set[Pattern] = set()
    names: set[str] = set()
    for rule in map(as_rule, rules):
        pattern, name = parse(rule.text), rule.name or rule.text
        if name in names and pattern not in patterns:
            raise ConfigurationError(f"two rules are called {name!r}: give one another name=")
        names.add(name)
        own = verifier if rule.verifier is None else rule.verifier
        with _naming(name):
            if id(own) not in services:
                validate_verifier(own)
                affected: list[str] = []
                report = partial(_report_health, shared, affected)
                health = Health(own, shared.max_checks, clock=shared.clock, on_change=report)
                services[id(own)] = captcha_of(own), health, affected
            captcha, health, affected = services[id(own)]
            affected.append(name)
            settings = replace(defaults, **rule.settings) if rule.settings else defaults
            if "sources" in rule.settings:
                settings = replace(settings, sources=(*settings.sources, *last_sources))
            if settings.mode == "defer" and not isinstance(rule, DeferringRule):
                raise ConfigurationError(
                    'mode="defer" is for marked views of Django only, such as '
                    '@captcha_required(mode="defer"): other handlers would run without a '
                    'captcha. Mark the view, or use "enforce"'
                )
            if pattern in patterns:
                raise ConfigurationError("listed twice: the second rule could never apply")
            patterns.add(pattern)
            key = id(settings), captcha.has_randstr
            if key not in extractors:
                extractors[key] = Extractor(
                    settings.sources,
                    body_limit=settings.body_limit,
                    body_timeout=settings.body_timeout,
                    needs_randstr=captcha.has_randstr,
                )
            compiled_rule = CompiledRule(
                name, pattern, own, captcha, settings, health, shared, extractors[key]
            )
            _validate(compiled_rule)
            compiled.append(compiled_rule)
    return tuple(compiled)


def _report_health(shared: Shared, names: Sequence[str], _: State, state: State) -> None:
    if shared.on_event is not None:
        for name in names:
            shared.on_event(Event(name, "health", state, None, 0.0))


def _validate(rule: CompiledRule) -> None:
    verifier, settings = type(rule.verifier).__name__, rule.settings
    if not rule.captcha.refuses_reuse:
        validate_single_process(rule.shared.replay_store)
    if settings.disaster_tickets == "allow" and not rule.captcha.app_id:
        raise ConfigurationError(
            "disaster_tickets can be allowed only if the captcha is known: "
            f"give {verifier} an attribute captcha=CaptchaInfo(app_id)"
        )
    for name in ("on_unavailable", "disaster_tickets"):
        if getattr(settings, name) == "allow" and not rule.health.can_probe:
            raise ConfigurationError(
                f'{name}="allow" needs a verifier that can probe its service, and {verifier} '
                "has neither probe nor aprobe: only an outage established by probes may open "
                "the gate. With an async httpx client, use proxy= or ssl_context= instead"
            )


def exemptions(texts: Sequence[str]) -> list[Pattern]:
    """Parse the rule texts of what is never protected.

    Raises:
        ConfigurationError: If one is not a rule text, or covers everything.
    """
    validate_list("exempt", texts)
    with _naming("exempt"):
        patterns = [parse(text) for text in texts]
    if any(pattern.is_everything for pattern in patterns):
        raise ConfigurationError("exempt has /**, so nothing is protected: name less")
    return patterns


@contextmanager
def _naming(context: str) -> Iterator[None]:
    """Prefix a configuration error with the rule it belongs to."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{context}: {error}") from error


def require_style(
    style: CallStyle, rules: Sequence[CompiledRule], replay_store: ReplayStore
) -> None:
    """Validate that an adapter can call all hooks, verifiers and the replay store.

    Raises:
        ConfigurationError: If the adapter is sync and one of them is async, or the reverse.
    """
    require_replay_store(style, replay_store)
    for rule in rules:
        with _naming(rule.name):
            require(style, rule.verifier)
            if style == "sync" and is_async(rule.settings.when):
                raise ConfigurationError("when is async: under WSGI make it a plain function")


def without_verifiers(rules: Sequence[Rule | str]) -> list[Rule]:
    """Return the rules with the guard's verifier instead of their own."""
    return [
        type(rule)(rule.text, name=rule.name, **rule.settings) for rule in map(as_rule, rules)
    ]


def as_rule(value: object) -> Rule:
    """Return a rule from its text, or as it is.

    Raises:
        ConfigurationError: If it is neither.
    """
    if isinstance(value, Rule):
        return value
    if isinstance(value, str):
        return Rule(value)
    raise ConfigurationError(
        f'{value!r} is not a rule: write "POST /login" or Rule("POST /login")'
    )
