"""The walk that every covered request takes, told once for both colours.

`Guard.check` does no I/O: it yields what it needs (`ReadBody`, `Ask`, `Pause`, `Claim`,
`Verify`), is sent the answer or thrown the failure, and returns the decision. The faces only
fetch those answers.
"""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tcaptcha_middleware.addresses import usable
from tcaptcha_middleware.answers import answer_to
from tcaptcha_middleware.browser.half import BrowserHalf, with_cookie
from tcaptcha_middleware.browser.page import as_page
from tcaptcha_middleware.checks import check_plain_function, check_verifier
from tcaptcha_middleware.claims.keys import claim_key, fingerprint
from tcaptcha_middleware.claims.memory import MemoryClaims
from tcaptcha_middleware.coverage import Shared, cover, exemptions, require_colour
from tcaptcha_middleware.errors import MisconfiguredError, RequestBodyError, VerifierError
from tcaptcha_middleware.extraction.pairs import screen
from tcaptcha_middleware.matching.rules import MatchCache, Matcher
from tcaptcha_middleware.models import Allow, Reason, Refuse, Ticket, Unchecked
from tcaptcha_middleware.operating import reports
from tcaptcha_middleware.operating.enforcement import enforced, observed
from tcaptcha_middleware.operating.events import Event
from tcaptcha_middleware.operating.switch import Switch
from tcaptcha_middleware.settings import Settings
from tcaptcha_middleware.steps import Ask
from tcaptcha_middleware.verification import accepts_disaster, reason_of, verify

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcaptcha_middleware.browser.page import Page
    from tcaptcha_middleware.checks import Colour
    from tcaptcha_middleware.coverage import Coverage
    from tcaptcha_middleware.models import Decision, Request
    from tcaptcha_middleware.responses import Response
    from tcaptcha_middleware.settings import Claims, Rule, Verifier
    from tcaptcha_middleware.steps import Walk


@dataclass(frozen=True, eq=False)
class Guard(Settings):
    """What to protect, and how. Immutable, and checked as a whole on construction.

    Takes every argument of `Settings` too, as what holds unless a `Rule` says otherwise.

    Args:
        rules: Rule texts, or `Rule` where one needs settings of its own. The first that
            covers a request holds.
        verifier: Who checks a ticket.
        exempt: Rule texts of what is never covered, as paths of the application itself.
        claims: Who may spend a ticket: the first to claim it. In memory by default, for one
            process; `RedisClaims` for several.
        on_claims_down: What is done while the store is down: `"verify"` leaves it to
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
    claims: Claims = field(default_factory=MemoryClaims)
    on_claims_down: Literal["verify", "deny"] = "verify"
    max_checks: int = 256
    on_event: Callable[[Event], object] | None = None
    switch: Switch = field(default_factory=Switch)
    page: Page | str | None = None
    unnamed: frozenset[str] = field(init=False, repr=False)
    _coverages: tuple[Coverage, ...] = field(init=False, repr=False)
    _matches: MatchCache = field(init=False, repr=False)
    _browser: BrowserHalf = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Parse the rules and fill in their settings."""
        super().__post_init__()
        check_verifier(self.verifier)
        if self.on_event is not None:
            check_plain_function("on_event", self.on_event)
        exempt, page = exemptions(self.exempt), as_page(self.page)
        coverages = self._cover(page)
        matcher = Matcher([coverage.pattern for coverage in coverages], exempt)
        half = BrowserHalf(page, self.verifier, self.sources, coverages, self.match)
        object.__setattr__(self, "page", page)
        object.__setattr__(self, "_coverages", coverages)
        object.__setattr__(self, "_matches", MatchCache(matcher.match))
        object.__setattr__(self, "unnamed", matcher.unnamed)
        object.__setattr__(self, "_browser", half)

    def _cover(self, page: Page | None) -> tuple[Coverage, ...]:
        shared = Shared(self.claims, self.on_claims_down, self.max_checks)
        coverages = cover(self.rules, self, self.verifier, shared)
        return coverages if page is None else tuple(map(with_cookie, coverages))

    def require(self, colour: Colour) -> None:
        """Check that everything a face of this colour has to call is of it.

        Raises:
            ConfigurationError: A verifier, the claims store or a `when` is of the other colour.
        """
        require_colour(colour, self._coverages, self.claims)

    def match(
        self, method: str, path: str, raw_path: bytes = b"", root_path: str = ""
    ) -> Coverage | None:
        """Return what covers the request, or None where the application has it alone.

        Args:
            method: The method, in any case.
            path: The decoded path, the mount included (ASGI, "HTTP connection scope").
            raw_path: The path's bytes before decoding, where the server tells them.
            root_path: Where the application is mounted.
        """
        number = self._matches[method, path, raw_path, root_path]
        return None if number is None else self._coverages[number]

    def check(self, coverage: Coverage, request: Request) -> Walk[Decision]:
        """Walk a covered request from its head to a decision; whatever came, there is one.

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
            reports.unreadable_body(coverage.name, error)
            decision = Refuse(Reason.REQUEST_MALFORMED, coverage.name)
        except VerifierError as error:
            reports.no_verdict(coverage.name, error)
            decision = Refuse(reason_of(error), coverage.name)
        except Exception as error:
            reports.broken_hook(coverage.name, "a function of the application's", error)
            decision = Refuse(Reason.MISCONFIGURED, coverage.name)
        if isinstance(decision, Refuse) and not holds:
            reports.would_refuse(coverage.name, decision.reason)
            decision = observed(decision, coverage)
        self._tell(coverage, decision, time.monotonic() - began)
        return decision

    def _decide(self, coverage: Coverage, request: Request, holds: bool) -> Walk[Decision]:
        excuse = self._excuse(coverage, request)
        if excuse is None and coverage.settings.when is not None:
            excuse = yield from _asked(coverage.settings.when, coverage, request)
        if excuse is not None:
            return Allow(coverage.name, unchecked=excuse, coverage=coverage)
        found = yield from coverage.extraction.walk(request, may_hang_up=holds)
        if isinstance(found, Reason):
            reports.no_pair(coverage.name, found, coverage.settings.sources, request)
            return Refuse(found, coverage.name)
        ticket = Ticket(*found, _address(coverage.settings, request))
        reason = screen(ticket)
        if reason is None:
            return (yield from verify(coverage, ticket))
        if reason is Reason.DISASTER_TICKET and (yield from accepts_disaster(coverage, ticket)):
            return Allow(coverage.name, unchecked=Unchecked.DISASTER_TICKET, coverage=coverage)
        return Refuse(reason, coverage.name, fingerprint=fingerprint(claim_key(ticket)))

    def _excuse(self, coverage: Coverage, request: Request) -> Unchecked | None:
        if coverage.preflight and request.is_preflight:
            return Unchecked.PREFLIGHT
        return Unchecked.SWITCHED_OFF if self.switch.is_off else None

    def _tell(self, coverage: Coverage, decision: Decision, seconds: float) -> None:
        if self.on_event is None:
            return
        try:
            self.on_event(Event.of(decision, seconds))
        except Exception as error:
            reports.broken_hook(coverage.name, "on_event", error)

    def settled(self, coverage: Coverage, earlier: object) -> bool:
        """Tell whether this guard, further out on the same stack, let the request through.

        A ticket can be spent once, so that it is checked once. By the same rule only: what is
        enough for one may not be for another.
        """
        return isinstance(earlier, Allow) and earlier.coverage is coverage

    def answer(self, coverage: Coverage, request: Request, refuse: Refuse) -> Any:
        """Return what a refused request is answered with: a `Response`, or an application."""
        return answer_to(coverage, request, refuse, self._browser)

    @property
    def served(self) -> tuple[str, ...]:
        """How every path ends that `serve` may answer; the faces ask it for no other."""
        return self._browser.paths

    def serve(self, request: Request) -> Response | None:
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
                reports.cannot_close(one, error)

    async def aclose(self) -> None:
        """Same as `close`, but awaited."""
        for one in self._closable("aclose"):
            try:
                await one.aclose()
            except Exception as error:
                reports.cannot_close(one, error)

    def _closable(self, name: str) -> list[Any]:
        every = [self.claims, *(coverage.verifier for coverage in self._coverages)]
        return list({id(one): one for one in every if hasattr(one, name)}.values())


def _asked(
    when: Callable[[Request], Any], coverage: Coverage, request: Request
) -> Walk[Unchecked | None]:
    answer = yield Ask(when, request, coverage.settings.check_timeout)
    return None if answer else Unchecked.NOT_ASKED


def _address(settings: Settings, request: Request) -> str:
    told = settings.client_ip(request)
    if not isinstance(told, str):
        raise MisconfiguredError(f"client_ip returned a {type(told).__name__}, not a text")
    address = usable(told) or settings.fallback_ip
    if address is None:
        raise MisconfiguredError("the visitor's address is unknown: set client_ip")
    return address
