"""`Guard`: what to protect and how, and the routing that both adapters share."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Self

from tcaptcha_middleware.browser.challenge import NavigationCookie
from tcaptcha_middleware.browser.cors import Cors
from tcaptcha_middleware.browser.endpoints import BrowserEndpoints
from tcaptcha_middleware.browser.page import as_page
from tcaptcha_middleware.errors import MisconfiguredError
from tcaptcha_middleware.matching.matcher import MatchCache, Matcher
from tcaptcha_middleware.matching.paths import validate_mount
from tcaptcha_middleware.models import Allow, Unchecked
from tcaptcha_middleware.operations import Switch, log
from tcaptcha_middleware.replay.memory import MemoryReplayStore
from tcaptcha_middleware.responses import CODE_HEADER, PlainResponse, respond
from tcaptcha_middleware.rules import (
    AmbiguousTarget,
    Shared,
    compile_rules,
    exemptions,
    require_style,
)
from tcaptcha_middleware.settings import RuleSettings, Settings
from tcaptcha_middleware.strictness import suffices
from tcaptcha_middleware.validation import validate_plain_function, validate_verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping, Sequence

    from tcaptcha_middleware.browser.endpoints import Endpoint
    from tcaptcha_middleware.browser.page import Page
    from tcaptcha_middleware.findings import Finding
    from tcaptcha_middleware.health.health import Health
    from tcaptcha_middleware.health.monitor import State
    from tcaptcha_middleware.matching.matcher import Target
    from tcaptcha_middleware.models import Refuse, RequestInfo
    from tcaptcha_middleware.operations import Event
    from tcaptcha_middleware.rules import CompiledRule, MatchedRule, Rule
    from tcaptcha_middleware.types import ReplayStore, Verifier
    from tcaptcha_middleware.validation import CallStyle

    Route = MatchedRule | Endpoint | None


class GuardSettings(RuleSettings, total=False):
    """The arguments of `Guard` after its verifier, for type checkers."""

    exempt: Sequence[str]
    mounted_at: str
    replay_store: ReplayStore
    on_replay_store_error: Literal["verify", "deny"]
    max_checks: int
    on_event: Callable[[Event], object] | None
    switch: Switch
    cors: Sequence[str]
    page: Page | str | None


@dataclass(frozen=True, eq=False)
class Guard(Settings):
    """What to protect, and how. Immutable, and validated as a whole on construction.

    A captcha gives the browser a ticket and a randstr, here called the pair. Takes every
    argument of `Settings` too, as the default for each `Rule`.

    Args:
        rules: Rule texts, or `Rule` for one with different settings. The first matching rule
            applies. If a target can be read in several ways that different rules match, one
            that is strict enough for all of them applies, or the request is refused with 400.
        verifier: Verifies tickets.
        exempt: Requests to leave unprotected, as rule texts with paths of the application
            itself. Compared exactly: a different case, an extension or an unusual spelling is
            not exempt.
        mounted_at: The path before the application's own, such as `"/api"`, if only the
            application knows it. What a FastAPI or Django application says about itself is
            read when a middleware wraps it.
        replay_store: Lets each ticket be used only once. In memory by default, for one
            process; `RedisReplayStore` for several. Tickets of mini-programs need one of these
            or `MemoryReplayStore(single_process=True)`.
        on_replay_store_error: What to do if the store fails: `"verify"` relies on Tencent,
            which refuses a second use too, but not of tickets of mini-programs, so those are
            refused; `"deny"` refuses all.
        max_checks: How many verifications may run at the same time, for each verifier; 64 at
            most.
        on_event: Receives an `Event` for each decision. Called synchronously during the
            request; keep it fast. Exceptions are logged and ignored.
        switch: The kill switch.
        cors: Origins of frontends, such as `"https://www.example.com"`, whose scripts may read
            the gate's own answers, and send the headers with the ticket. Everything else is
            left to the application's own CORS middleware.
        page: Serves the browser endpoints below this path, such as `"/tcaptcha"`, and shows the
            challenge to visitors who open a protected page; their cookies are then the last
            source. Pass a `Page` for more options.

    Attributes:
        unmatched_methods: The methods that no rule names.
        page_paths: The paths that the guard answers itself, below the application's mount.
        preflight_headers: Headers to add to every response to an `OPTIONS` request.

    Raises:
        ConfigurationError: If a setting is not valid; the message says which, and the fix.
    """

    rules: Sequence[Rule | str]
    verifier: Verifier
    _: KW_ONLY
    exempt: Sequence[str] = ()
    mounted_at: str = ""
    replay_store: ReplayStore = field(default_factory=MemoryReplayStore)
    on_replay_store_error: Literal["verify", "deny"] = "verify"
    max_checks: int = 64
    on_event: Callable[[Event], object] | None = None
    switch: Switch = field(default_factory=Switch)
    cors: Sequence[str] = ()
    page: Page | str | None = None
    unmatched_methods: frozenset[str] = field(init=False, repr=False)
    page_paths: tuple[str, ...] = field(init=False, repr=False)
    preflight_headers: Sequence[tuple[str, str]] = field(init=False, repr=False)
    _rules: tuple[CompiledRule, ...] = field(init=False, repr=False)
    _matches: MatchCache[MatchedRule | None] = field(init=False, repr=False)
    _browser: BrowserEndpoints = field(init=False, repr=False)
    _cors: Cors = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Validate the settings and compile the rules."""
        # Validated on construction; each rule copies them and replaces its own.
        settings = Settings(
            **{name: getattr(self, name) for name in Settings.__dataclass_fields__}
        )
        validate_verifier(self.verifier)
        if self.on_event is not None:
            validate_plain_function("on_event", self.on_event)
        exempt, page = exemptions(self.exempt), as_page(self.page)
        shared = Shared(
            self.replay_store,
            self.on_replay_store_error,
            self.max_checks,
            self.switch,
            self.on_event,
        )
        # The challenge page writes the pair into cookies.
        cookies = () if page is None else (NavigationCookie(),)
        rules = compile_rules(self.rules, settings, self.verifier, shared, cookies)
        validate_mount("mounted_at", self.mounted_at)
        matcher = Matcher(
            [rule.pattern for rule in rules],
            exempt,
            lambda first, second: suffices(rules[first], rules[second]),
        )

        def matched_rule(*target: Any) -> MatchedRule | None:
            match = matcher.match(*target)
            if isinstance(match, tuple):
                return AmbiguousTarget(tuple(rules[number] for number in match))
            return None if match is None else rules[match]

        cors = Cors(self.cors)
        browser = BrowserEndpoints(
            page, (self.verifier, settings.sources), rules, self.match, cors
        )
        # The dataclass is frozen, so the computed fields are set directly.
        vars(self).update(
            sources=settings.sources,
            page=page,
            unmatched_methods=matcher.unmatched_methods,
            page_paths=browser.paths,
            preflight_headers=cors.preflight_headers(
                source for rule in rules for source in rule.settings.sources
            ),
            _rules=rules,
            _matches=MatchCache(matched_rule),
            _browser=browser,
            _cors=cors,
        )

    def require(self, style: CallStyle) -> None:
        """Validate that an adapter can call everything it has to.

        Raises:
            ConfigurationError: If a verifier, the replay store or a `when` is sync and has to
                be async, or the reverse.
        """
        require_style(style, self._rules, self.replay_store)

    def route(self, target: Target, holder: MutableMapping[str, Any], key: str) -> Route:
        """Return what handles a request: a page, a rule, or None for the application alone.

        Args:
            target: The method, the decoded path with the mount before it (ASGI, "HTTP
                connection scope"), the path before decoding if the server provides it, the
                mount as the server reports it, and the mount that only the application knows.
            holder: The ASGI scope or WSGI environ. A forged decision is removed from it.
            key: Where it holds the decision of an outer instance.
        """
        earlier = holder.get(key)
        if earlier is not None and not isinstance(earlier, Allow):
            del holder[key]
        method, path, _, root_path, mount = target
        # A websocket has no page.
        if path.endswith(self.page_paths) and holder.get("type") != "websocket":
            page = self._browser.find(path, mount or root_path)
            if page is not None:
                return page
        if method in self.unmatched_methods:
            return None
        rule = self._matches[target]  # computed by `matched_rule` above, and kept
        if rule is not None and (earlier is None or not _is_allowed(earlier, rule, target)):
            return rule
        return None

    def match(
        self, method: str, path: str, raw_path: bytes = b"", root_path: str = ""
    ) -> MatchedRule | None:
        """Return the rule that judges a target; see `route` for the arguments."""
        return self._matches[method, path, raw_path, root_path, self.mounted_at]

    def record(
        self,
        decision: Allow,
        rule: MatchedRule,
        target: Target,
        holder: MutableMapping[str, Any],
        key: str,
    ) -> None:
        """Keep a decision for the handler, and for inner instances of this guard.

        Args:
            decision: The decision.
            rule: The rule that it was made by.
            target: As in `route`.
            holder: The ASGI scope or WSGI environ.
            key: Where it holds the decision.
        """
        # Set in place and not in a copy: `on_event` may have kept this object.
        decision.target = rule, target[0], target[1]  # type: ignore[misc]
        decision.outer = holder.get(key)  # type: ignore[misc]
        holder[key] = decision

    def answer(
        self, rule: MatchedRule, request: RequestInfo, refuse: Refuse
    ) -> tuple[Any, Sequence[tuple[str, str]]]:
        """Return the denial response, and headers to add to it.

        The response is the responder's, the challenge page, or a document.

        Args:
            rule: The rule that refused.
            request: The request's head.
            refuse: The decision.
        """
        added = [(CODE_HEADER, refuse.reason.value), *self._cors.headers(request)]
        if rule.settings.responder is not None:
            try:
                answer = rule.settings.responder(request, refuse)
                if isinstance(answer, PlainResponse) or callable(answer):
                    return answer, added
                # Logged below, like an exception of the responder.
                kind = type(answer).__name__
                raise MisconfiguredError(
                    f"a responder must return an application or a PlainResponse, got {kind}"
                )
            except Exception as error:
                log.broken_hook(rule, "responder", error)
        challenge = self._browser.challenge(rule, request, refuse.reason)
        return challenge or respond(refuse.reason, request, refuse.retry_after), added

    @property
    def health(self) -> dict[str, State]:
        """What is known of each rule's verifier: rule name to up, suspect or down."""
        return {rule.name: rule.health.state for rule in self._rules}

    def public_settings(
        self, for_: str = "", root_path: str = "", language: str | None = None
    ) -> dict[str, Any]:
        """Return the settings of `tcaptcha.js`, for pages that you serve. No secrets.

        Call it for each page, because an `aidEncrypted` may be good for one use.

        Args:
            for_: The request that will need the ticket, such as `"POST /login"`; selects the
                rule. Empty for the guard's own verifier.
            root_path: Where the application is mounted.
            language: The page's language, such as `"zh-TW"`; None for that of `Page`.

        Raises:
            ConfigurationError: If no browser can show that rule's captcha.
        """
        return self._browser.settings(for_, root_path, language)

    def covers(self, app: object) -> list[Finding]:
        """Compare the rules with the routes of an application, for use in your tests.

        No handler is called. `tcaptcha check` prints the same.

        Args:
            app: The application, with or without middlewares around it.

        Raises:
            ConfigurationError: If the application has no routes, or none that can be read; or
                no handler is marked, and there are no rules.
        """
        # Imported by name, and late, to avoid a cycle: it knows the middlewares.
        check = import_module("tcaptcha_middleware.integrations.routes.check").check
        findings: list[Finding] = check(app, self)
        return findings

    def close(self) -> None:
        """Close what verifiers and replay store opened; they reconnect on next use."""
        close_all(*self._opened())

    async def aclose(self) -> None:
        """Async version of `close`."""
        await aclose_all(*self._opened())

    def _opened(self) -> tuple[list[Any], list[Health]]:
        resources = [self.replay_store, *(rule.verifier for rule in self._rules)]
        return resources, [rule.health for rule in self._rules]

    def __eq__(self, other: object) -> bool:
        """Compare by identity: guards with the same settings may have different rules."""
        return self is other

    def __hash__(self) -> int:
        """Return the hash of the identity."""
        return id(self)

    def __deepcopy__(self, memo: object) -> Self:
        """Return the guard itself: it is immutable, and its state must stay shared."""
        return self


def close_all(resources: Iterable[Any], healths: Iterable[Health]) -> None:
    """Close verifiers and replay stores, and end the probes of their services.

    Args:
        resources: What is closed once, if it has a `close`. An exception is logged.
        healths: The healths of the verifiers.
    """
    for health in healths:
        health.close()
    for resource in _having("close", resources):
        try:
            resource.close()
        except Exception as error:
            log.cannot_close(resource, error)


async def aclose_all(resources: Iterable[Any], healths: Iterable[Health]) -> None:
    """Async version of `close_all`, for what has an `aclose`."""
    for health in healths:
        health.close()
    for resource in _having("aclose", resources):
        try:
            await resource.aclose()
        except Exception as error:
            log.cannot_close(resource, error)


def _having(name: str, resources: Iterable[Any]) -> list[Any]:
    return list({id(value): value for value in resources if hasattr(value, name)}.values())


def _is_allowed(earlier: object, rule: MatchedRule, target: Target) -> bool:
    """Return whether an outer instance already allowed this very request by this rule.

    A ticket can be used once, so it is verified once. Decisions that an inner instance may make
    otherwise do not count: it may see another method than a preflight's, or more for `when`.
    """
    while isinstance(earlier, Allow):
        is_final = earlier.unchecked not in (Unchecked.PREFLIGHT, Unchecked.NOT_ASKED)
        if is_final and earlier.target == (rule, *target[:2]):
            return True
        earlier = earlier.outer
    return False
