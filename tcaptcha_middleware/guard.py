"""The walk that every covered request takes, told once for both colours.

`Guard.check` does no I/O: it yields what it needs (`ReadBody`, `Verify`), is sent the answer
or thrown the failure, and returns the decision. The faces only fetch those answers.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tcaptcha_middleware.addresses import peer_address, usable
from tcaptcha_middleware.codes import judge
from tcaptcha_middleware.errors import (
    MisconfiguredError,
    RequestBodyError,
    VerifierError,
)
from tcaptcha_middleware.models import Allow, ReadBody, Reason, Refuse, Ticket, Verdict, Verify
from tcaptcha_middleware.pairs import Seen, screen
from tcaptcha_middleware.reports import (
    broken_hook,
    broken_verifier,
    no_verdict,
    unreadable_body,
)
from tcaptcha_middleware.responses import Response, respond
from tcaptcha_middleware.rules import Matcher, parse
from tcaptcha_middleware.settings import Settings, as_rule, check_list, check_names, require
from tcaptcha_middleware.tickets import DEFAULT_SOURCES, body_parser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcaptcha_middleware.bodies import Parser
    from tcaptcha_middleware.models import Decision, Request, Step
    from tcaptcha_middleware.pairs import Pair
    from tcaptcha_middleware.settings import Colour, Rule, Verifier
    from tcaptcha_middleware.tickets import Source

T = TypeVar("T")
Walk = Generator["Step", Any, T]


@dataclass(frozen=True, slots=True)
class Coverage:
    """A rule at work: what holds for the requests that it covers.

    Attributes:
        name: The rule's name.
        settings: The guard's settings with the rule's own over them.
        preflight: Whether a CORS preflight passes unchecked.
    """

    name: str
    settings: Settings
    preflight: bool


@dataclass(frozen=True, eq=False)
class Guard:
    """What to protect, and how. Immutable, and checked as a whole on construction.

    Args:
        rules: Rule texts, or `Rule` where one needs settings of its own. The first that
            covers a request holds.
        verifier: Who checks a ticket.
        exempt: Rule texts of what is never covered, as paths of the application itself.
        sources: Where the pair is looked for.
        client_ip: Tells the visitor's address from the `Request`; the peer's by default.
        responder: Makes the answer from the `Request` and the `Refuse`: an ASGI or WSGI
            application, or a `Response`. None for problem+json.
        body_limit: How much of a body is read in search of the pair, in bytes.
        body_timeout: How long a client may take to send that much, in seconds.

    Raises:
        ConfigurationError: Something cannot work; says what, and how to mend it.
    """

    rules: Sequence[Rule | str]
    verifier: Verifier
    _: KW_ONLY
    exempt: Sequence[str] = ()
    sources: Sequence[Source] = DEFAULT_SOURCES
    client_ip: Callable[[Request], str] = peer_address
    responder: Callable[[Request, Refuse], Any] | None = None
    body_limit: int = 64 * 1024
    body_timeout: float = 10.0
    _coverages: tuple[Coverage, ...] = field(init=False, repr=False)
    _matcher: Matcher = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Parse the rules and fill in their settings."""
        check_list("rules", self.rules)
        check_list("exempt", self.exempt or ["/"])
        rules = [as_rule(rule) for rule in self.rules]
        own = {name: getattr(self, name) for name in Settings.__dataclass_fields__}
        patterns = [parse(rule.text) for rule in rules]
        coverages = tuple(
            Coverage(
                rule.name or rule.text,
                Settings(**own | rule.overrides),
                preflight="OPTIONS" not in pattern.methods,
            )
            for rule, pattern in zip(rules, patterns, strict=True)
        )
        check_names([coverage.name for coverage in coverages])
        object.__setattr__(self, "_coverages", coverages)
        exempt = [parse(text) for text in self.exempt]
        object.__setattr__(self, "_matcher", Matcher(patterns, exempt))

    def require(self, colour: Colour) -> None:
        """Check that every rule's verifier can serve a face of this colour.

        Raises:
            ConfigurationError: One is of the other colour.
        """
        for verifier in self._verifiers():
            require(colour, verifier)

    def match(
        self, method: str, path: str, raw_path: bytes = b"", root_path: str = ""
    ) -> Coverage | None:
        """Return what covers the request, or None where the application has it alone.

        Args:
            method: The method, in any case.
            path: The decoded path.
            raw_path: The path's bytes before decoding, where the server tells them.
            root_path: Where the application is mounted.
        """
        number = self._matcher.match(method, path, raw_path, root_path)
        return None if number is None else self._coverages[number]

    def check(self, coverage: Coverage, request: Request) -> Walk[Decision]:
        """Walk a covered request from its head to a decision; whatever came, there is one.

        Args:
            coverage: What `match` returned for the request.
            request: The request's head.

        Yields:
            What the face has to fetch; see each `Step` for the answer it expects.
        """
        try:
            return (yield from self._decide(coverage, request))
        except RequestBodyError as error:
            unreadable_body(coverage.name, error)
            return Refuse(Reason.REQUEST_MALFORMED, coverage.name)
        except Exception as error:
            broken_hook(coverage.name, error)
            return Refuse(Reason.MISCONFIGURED, coverage.name)

    def _decide(self, coverage: Coverage, request: Request) -> Walk[Decision]:
        if coverage.preflight and request.is_preflight:
            return Allow(coverage.name, guard=self)
        found = yield from self._extract(coverage.settings, request)
        if isinstance(found, Reason):
            return Refuse(found, coverage.name)
        ticket = Ticket(*found, usable(coverage.settings.client_ip(request)))
        reason = screen(ticket)
        if reason is not None:
            return Refuse(reason, coverage.name)
        return (yield from self._verify(coverage, ticket))

    def _extract(self, settings: Settings, request: Request) -> Walk[Pair | Reason]:
        seen = Seen()
        for source in settings.sources:
            found = source.find(request)
            seen.add(found)
            if found.complete:
                return Reason.TICKET_AMBIGUOUS if seen.ambiguous else found.pair()
        body = yield from self._read(settings, body_parser(settings.sources, request))
        if isinstance(body, Reason):
            return body
        seen.add(body)
        if seen.ambiguous:
            return Reason.TICKET_AMBIGUOUS
        return body.pair() if body.complete else Reason.TICKET_MISSING

    def _read(self, settings: Settings, parser: Parser | None) -> Walk[Seen | Reason]:
        if parser is None:
            return Seen()
        room, deadline = settings.body_limit, time.monotonic() + settings.body_timeout
        while (piece := (yield ReadBody(_left(deadline)))) is not None:
            seen = parser.feed(piece[:room])
            if seen is not None:
                return seen
            room -= len(piece)
            if room < 0:
                return Reason.BODY_TOO_LARGE
        return parser.finish()

    def _verify(self, coverage: Coverage, ticket: Ticket) -> Walk[Decision]:
        verdict = None
        try:
            verdict = _verdict((yield Verify(coverage.settings.verifier, ticket)))
            reason = judge(verdict, ticket)
        except VerifierError as error:
            reason = no_verdict(coverage.name, error)
        except Exception as error:
            reason = broken_verifier(coverage.name, error, ticket)
        if reason is None:
            return Allow(coverage.name, verdict, self)
        return Refuse(reason, coverage.name, verdict)

    def settled(self, coverage: Coverage, earlier: object) -> bool:
        """Tell whether this guard, further out on the same stack, let the request through.

        A ticket can be spent once, so that it is checked once.
        """
        return (
            isinstance(earlier, Allow)
            and earlier.guard is self
            and earlier.rule == coverage.name
        )

    def answer(self, coverage: Coverage, request: Request, refuse: Refuse) -> Any:
        """Return what a refused request is answered with: a `Response`, or an application."""
        responder = coverage.settings.responder
        if responder is not None:
            try:
                return _answer(responder(request, refuse))
            except Exception as error:
                broken_hook(coverage.name, error)
        return respond(refuse.reason, request)

    def close(self) -> None:
        """Close what the verifiers opened; they open again when they are used again."""
        for verifier in self._verifiers():
            if hasattr(verifier, "close"):
                verifier.close()

    async def aclose(self) -> None:
        """Same as `close`, but awaited."""
        for verifier in self._verifiers():
            if hasattr(verifier, "aclose"):
                await verifier.aclose()

    def _verifiers(self) -> list[Any]:
        every = [coverage.settings.verifier for coverage in self._coverages]
        return list({id(verifier): verifier for verifier in every}.values())


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise RequestBodyError("the body came too slowly")
    return left


def _verdict(answer: object) -> Verdict:
    if isinstance(answer, Verdict):
        return answer
    raise MisconfiguredError(f"the verifier returned {type(answer).__name__}, not a Verdict")


def _answer(answer: object) -> object:
    if isinstance(answer, Response) or callable(answer):
        return answer
    raise TypeError(f"a responder returns an application or a Response, not {answer!r}")
