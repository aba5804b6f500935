"""The walk that every covered request takes, told once for both colours.

`Guard.check` does no I/O: it yields what it needs (`ReadBody`, `Ask`, `Pause`, `Claim`,
`Verify`), is sent the answer or thrown the failure, and returns the decision. The faces only
fetch those answers.
"""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tcaptcha_middleware.answers import answer_to
from tcaptcha_middleware.browser.endpoints import BrowserEndpoints, with_cookie
from tcaptcha_middleware.browser.page import as_page
from tcaptcha_middleware.client_ip import usable
from tcaptcha_middleware.effects import CallHook
from tcaptcha_middleware.errors import MisconfiguredError, RequestBodyError, VerifierError
from tcaptcha_middleware.extraction.pairs import screen
from tcaptcha_middleware.matching.patterns import MatchCache, Matcher
from tcaptcha_middleware.models import Allow, Reason, Refuse, Submission, Unchecked
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.operations.enforcement import enforced, observed
from tcaptcha_middleware.operations.events import Event
from tcaptcha_middleware.operations.switch import Switch
from tcaptcha_middleware.replay.fingerprint import fingerprint, replay_key
from tcaptcha_middleware.replay.memory import MemoryReplayStore
from tcaptcha_middleware.rules import Shared, compile_rules, exemptions, require_style
from tcaptcha_middleware.settings import Settings
from tcaptcha_middleware.validation import check_plain_function, check_verifier
from tcaptcha_middleware.verification import accepts_disaster, reason_of, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcaptcha_middleware.browser.page import Page
    from tcaptcha_middleware.effects import Flow
    from tcaptcha_middleware.models import Decision, RequestInfo
    from tcaptcha_middleware.responses import PlainResponse
    from tcaptcha_middleware.rules import CompiledRule
    from tcaptcha_middleware.settings import ReplayStore, Rule, Verifier
    from tcaptcha_middleware.validation import CallStyle


@dataclass(frozen=True, eq=False)
class Guard(Settings):
    """What to protect, and how. Immutable, and checked as a whole on construction.

    Takes every argument of `Settings` too, as what holds unless a `Rule` says otherwise.

    Args:
        rules: Rule texts, or `Rule` where one needs settings of its own. The first that
            covers a request holds.
        verifier: Who checks a ticket.
        exempt: Rule texts of what is never covered, as paths of the application itself.
        replay_store: Who may spend a ticket: the first to claim it. In memory by default, for one
            process; `RedisReplayStore` for several.
        on_replay_store_error: What is done while the store is down: `"verify"` leaves it to
            Tencent, which refuses a second use too; `"deny"` refuses. Tickets of mini-programs
            are refused either way, because Tencent may not refuse their second use.
        max_checks: How many checks may be under way at once, for each verifier.
        on_event: Gets an `Event` for every decision, in the request's own time, so it had
            better be quick; what it raises is logged and hurts nobody.
        switch: The kill switch.
        page: Serves the browser half below this path, such as `"/tcaptcha"`, and shows the
            challenge to visitors who open a covered page, whose cookies are then the last
            source; a `Page` where more is to be said.

    Attributes:
        unnamed: The methods that no rule is about; the faces match no request that has one.

    Raises:
        ConfigurationError: Something cannot work; says what, and how to mend it.
    """

    rules: Sequence[Rule | str]
    verifier: Verifier
    _: KW_ONLY
    exempt: Sequence[str] = ()
    replay_store: ReplayStore = field(default_factory=MemoryReplayStore)
    on_replay_store_error: Literal["verify", "deny"] = "verify"
    max_checks: int = 256
    on_event: Callable[[Event], object] | None = None
    switch: Switch = field(default_factory=Switch)
    page: Page | str | None = None
    unmatched_methods: frozenset[str] = field(init=False, repr=False)
    _compiled_rules: tuple[CompiledRule, ...] = field(init=False, repr=False)
    _matches: MatchCache = field(init=False, repr=False)
    _browser: BrowserEndpoints = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Parse the rules and fill in their settings."""
        super().__post_init__()
        check_verifier(self.verifier)
        if self.on_event is not None:
            check_plain_function("on_event", self.on_event)
        exempt, page = exemptions(self.exempt), as_page(self.page)
        compiled_rules = self._cover(page)
        matcher = Matcher([coverage.pattern for coverage in compiled_rules], exempt)
        half = BrowserEndpoints(page, self.verifier, self.sources, compiled_rules, self.match)
        object.__setattr__(self, "page", page)
        object.__setattr__(self, "_compiled_rules", compiled_rules)
        object.__setattr__(self, "_matches", MatchCache(matcher.match))
        object.__setattr__(self, "unmatched_methods", matcher.unmatched_methods)
        object.__setattr__(self, "_browser", half)

    def _cover(self, page: Page | None) -> tuple[CompiledRule, ...]:
        shared = Shared(self.replay_store, self.on_replay_store_error, self.max_checks)
        compiled_rules = compile_rules(self.rules, self, self.verifier, shared)
        return compiled_rules if page is None else tuple(map(with_cookie, compiled_rules))

    def require(self, style: CallStyle) -> None:
        """Check that everything a face of this colour has to call is of it.

        Raises:
            ConfigurationError: A verifier, the replay store or a `when` is of the other colour.
        """
        require_style(style, self._compiled_rules, self.replay_store)

    def match(
        self, method: str, path: str, raw_path: bytes = b"", root_path: str = ""
    ) -> CompiledRule | None:
        """Return what covers the request, or None where the application has it alone.

        Args:
            method: The method, in any case.
            path: The decoded path, the mount included (ASGI, "HTTP connection scope").
            raw_path: The path's bytes before decoding, where the server tells them.
            root_path: Where the application is mounted.
        """
        number = self._matches[method, path, raw_path, root_path]
        return None if number is None else self._compiled_rules[number]

    def check(self, coverage: CompiledRule, request: RequestInfo) -> Flow[Decision]:
        """Flow a covered request from its head to a decision; whatever came, there is one.

        Args:
            coverage: What `match` returned for the request.
            request: The request's head.

        Yields:
            What the face has to fetch; see each `Step` for the answer it expects.
        """
        began = time.monotonic()
        holds = enforced(coverage, request)
        try:
            decision = yield from self._decide(coverage, request, holds)
        except RequestBodyError as error:
            log.unreadable_body(coverage.name, error)
            decision = Refuse(Reason.REQUEST_MALFORMED, coverage.name)
        except VerifierError as error:
            log.no_verdict(coverage.name, error)
            decision = Refuse(reason_of(error), coverage.name)
        except Exception as error:
            log.broken_hook(coverage.name, "a function of the application's", error)
            decision = Refuse(Reason.MISCONFIGURED, coverage.name)
        if isinstance(decision, Refuse) and not holds:
            log.would_refuse(coverage.name, decision.reason)
            decision = observed(decision, coverage)
        self._emit(coverage, decision, time.monotonic() - began)
        return decision

    def _decide(
        self, coverage: CompiledRule, request: RequestInfo, holds: bool
    ) -> Flow[Decision]:
        excuse = self._bypass_reason(coverage, request)
        if excuse is None and coverage.settings.when is not None:
            excuse = yield from _asked(coverage.settings.when, coverage, request)
        if excuse is not None:
            return Allow(coverage.name, unchecked=excuse, coverage=coverage)
        found = yield from coverage.extraction.walk(request, may_disconnect=holds)
        if isinstance(found, Reason):
            log.no_pair(coverage.name, found, coverage.settings.sources, request)
            return Refuse(found, coverage.name)
        ticket = Submission(*found, _address(coverage.settings, request))
        reason = screen(ticket)
        if reason is None:
            return (yield from verify(coverage, ticket))
        if reason is Reason.DISASTER_TICKET and (yield from accepts_disaster(coverage, ticket)):
            return Allow(coverage.name, unchecked=Unchecked.DISASTER_TICKET, coverage=coverage)
        return Refuse(reason, coverage.name, fingerprint=fingerprint(replay_key(ticket)))

    def _bypass_reason(self, coverage: CompiledRule, request: RequestInfo) -> Unchecked | None:
        if coverage.preflight and request.is_preflight:
            return Unchecked.PREFLIGHT
        return Unchecked.SWITCHED_OFF if self.switch.is_off else None

    def _emit(self, coverage: CompiledRule, decision: Decision, seconds: float) -> None:
        if self.on_event is None:
            return
        try:
            self.on_event(Event.of(decision, seconds))
        except Exception as error:
            log.broken_hook(coverage.name, "on_event", error)

    def already_allowed(self, coverage: CompiledRule, earlier: object) -> bool:
        """Tell whether this guard, further out on the same stack, let the request through.

        A ticket can be spent once, so that it is checked once. By the same rule only: what is
        enough for one may not be for another.
        """
        return isinstance(earlier, Allow) and earlier.coverage is coverage

    def answer(self, coverage: CompiledRule, request: RequestInfo, refuse: Refuse) -> Any:
        """Return the denial response: a `PlainResponse`, or an application."""
        return answer_to(coverage, request, refuse, self._browser)

    @property
    def served(self) -> tuple[str, ...]:
        """How every path ends that `serve` may answer; the faces ask it for no other."""
        return self._browser.paths

    def serve(self, request: RequestInfo) -> PlainResponse | None:
        """Return the page's own answer to a request, or None where it is not the page's."""
        return self._browser.serve(request)

    def public_settings(self, for_: str = "", root_path: str = "") -> dict[str, Any]:
        """Return what `tcaptcha.js` has to know, for pages that you make yourself. No secrets.

        Ask anew for each page, because `aidEncrypted` may be good for one use.

        Args:
            for_: The request that will need the ticket, such as `"POST /login"`; picks the
                rule. Empty for the guard's own verifier.
            root_path: Where the application is mounted.

        Raises:
            ConfigurationError: No browser can show that rule's captcha.
        """
        return self._browser.settings(for_, root_path)

    def close(self) -> None:
        """Close what verifiers and claims opened; they open again when they are used again."""
        for one in self._closable("close"):
            try:
                one.close()
            except Exception as error:
                log.cannot_close(one, error)

    async def aclose(self) -> None:
        """Same as `close`, but awaited."""
        for one in self._closable("aclose"):
            try:
                await one.aclose()
            except Exception as error:
                log.cannot_close(one, error)

    def _closable(self, name: str) -> list[Any]:
        every = [self.replay_store, *(coverage.verifier for coverage in self._compiled_rules)]
        return list({id(one): one for one in every if hasattr(one, name)}.values())


def _asked(
    when: Callable[[RequestInfo], Any], coverage: CompiledRule, request: RequestInfo
) -> Flow[Unchecked | None]:
    answer = yield CallHook(when, request, coverage.settings.check_timeout)
    return None if answer else Unchecked.NOT_ASKED


def _address(settings: Settings, request: RequestInfo) -> str:
    told = settings.client_ip(request)
    if not isinstance(told, str):
        raise MisconfiguredError(f"client_ip returned a {type(told).__name__}, not a text")
    address = usable(told) or settings.fallback_ip
    if address is None:
        raise MisconfiguredError("the visitor's address is unknown: set client_ip")
    return address
