"""A record of each request at the gate, and its steps as the page shows them.

It uses only what every user of the package has: a verifier, a replay store and an `on_event`
of the application, and the ASGI message that starts a response. Tickets are shortened before
they are kept. The page adds the steps that only a browser knows: the challenge, and the result
for the user.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.replay.memory import MemoryReplayStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.asgi import App, Message, Receive, Scope, Send
    from tcaptcha_middleware.models import Allow, Decision, Submission, Verdict
    from tcaptcha_middleware.operations import Event
    from tcaptcha_middleware.testing.emulator import TencentEmulator

Step = dict[str, Any]
State = Literal["ok", "refused", "warn", "skipped"]

_REMEMBERED = 200
_SHOWN = 12
_NO_PAIR = (
    Reason.TICKET_MISSING,
    Reason.TICKET_AMBIGUOUS,
    Reason.REQUEST_MALFORMED,
    Reason.BODY_TOO_LARGE,
)
_NOT_CALLED = (Reason.VERIFIER_UNAVAILABLE, "unavailable")
_OUTCOMES: dict[str, tuple[State, str]] = {
    "refused": ("refused", "Refused: {}"),
    "unchecked": ("warn", "Let in unchecked: {}"),
}
_CLAIMS = {
    True: "first use of this ticket",
    False: "used before, so refused here",
    None: "none made",
}


@dataclass(slots=True)
class Trace:
    """One request, filled in while it is served.

    Attributes:
        method: The method.
        path: The path.
        peer: The host at the other end of the connection.
        names: The names of the headers, in lower case.
        number: The key of the trace; 0 before the gate has decided.
        status: The status of the response; 0 before there is one.
        first: If the ticket was claimed for the first time; None if it was not claimed.
        asked: The parameters of the call to Tencent, without secrets; empty without a call.
        reached: If Tencent read the call; None if that is unknown.
        failure: Why Tencent gave no verdict.
        handled: What `get_decision` returned to the handler; None if it was not called.
    """

    method: str
    path: str
    peer: str
    names: frozenset[str]
    number: int = 0
    status: int = 0
    first: bool | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    reached: bool | None = None
    failure: str = ""
    handled: Allow | None = None


class Journal:
    """Keeps the last 200 traces.

    Args:
        emulator: The emulator that verifies tickets; None if Tencent does.

    Attributes:
        replay_store: The store for the guard.
        before_call: Called before each call to Tencent.
        after_decision: Called after each decision of the gate.
    """

    def __init__(self, emulator: TencentEmulator | None = None) -> None:
        self._emulator = emulator
        self._numbers = itertools.count(1)
        self._current: ContextVar[Trace] = ContextVar("trace")
        self._kept: OrderedDict[int, tuple[Trace, Event, Decision]] = OrderedDict()
        self.replay_store: MemoryReplayStore = _ReplayStore(self)
        self.before_call: list[Callable[[], None]] = []
        self.after_decision: list[Callable[[], None]] = []

    def __getitem__(self, number: int) -> tuple[Trace, Event, Decision]:
        """Return a trace with its event and decision; raise KeyError for an unknown number."""
        return self._kept[number]

    @property
    def current(self) -> Trace:
        """The trace of the current request; raises LookupError outside a request."""
        return self._current.get()

    def begin(self, trace: Trace) -> None:
        """Make `trace` the trace of the current request."""
        self._current.set(trace)

    def on_event(self, event: Event) -> None:
        """Keep the trace of a decided request; the guard's `on_event`."""
        if event.decision is None:  # a change of the service's health
            return
        trace = self.current
        trace.number = next(self._numbers)
        self._kept[trace.number] = trace, event, event.decision
        if len(self._kept) > _REMEMBERED:
            self._kept.popitem(last=False)
        for call in self.after_decision:
            call()

    def wrap(self, verifier: Any) -> Any:
        """Return `verifier` with an `averify` that records its calls."""
        return _Verifier(self, verifier)

    def record_call(self, app_id: int, ticket: Submission) -> None:
        """Record the parameters of a call; those that the emulator received, if it did."""
        trace = self.current
        shown = f"{ticket.ticket[:_SHOWN]}…" if len(ticket.ticket) > _SHOWN else ticket.ticket
        trace.asked = {
            "CaptchaAppId": app_id,
            "Ticket": shown,
            "Randstr": ticket.randstr,
            "UserIp": ticket.user_ip,
        }
        if self._emulator is not None:
            calls = reversed(self._emulator.calls)
            received = next((call for call in calls if call["Ticket"] == ticket.ticket), None)
            trace.reached = received is not None
            if received is not None:
                trace.asked = {name: received[name] for name in trace.asked} | {"Ticket": shown}


class TraceMiddleware:
    """The outermost middleware: starts a trace and adds its number to the response.

    Args:
        app: The application with its gate.
        journal: Where traces are kept.
    """

    def __init__(self, app: App, journal: Journal) -> None:
        self._app = app
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = frozenset(name.decode("latin-1") for name, _ in scope["headers"])
        peer = (scope.get("client") or ("unknown",))[0]
        trace = Trace(scope["method"], scope["path"], peer, names)
        self._journal.begin(trace)

        async def send_with_number(message: Message) -> None:
            if message["type"] == "http.response.start" and trace.number:
                trace.status = message["status"]
                number = (b"x-trace", str(trace.number).encode())
                message["headers"] = [*message["headers"], number]
            await send(message)

        await self._app(scope, receive, send_with_number)


class _ReplayStore(MemoryReplayStore):
    """The default store, recording its answers."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    async def aclaim(self, key: str, token: str, seconds: float) -> bool:
        first = await super().aclaim(key, token, seconds)
        self._journal.current.first = first
        return first


class _Verifier:
    """A verifier that records its calls; all other attributes are the wrapped verifier's."""

    def __init__(self, journal: Journal, verifier: Any) -> None:
        self._journal = journal
        self._verifier = verifier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verifier, name)

    async def averify(self, ticket: Submission) -> Verdict:
        for call in self._journal.before_call:
            call()
        try:
            verdict: Verdict = await self._verifier.averify(ticket)
        except Exception as error:
            self._journal.current.failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._journal.record_call(self._verifier.captcha.app_id, ticket)
        return verdict


def timeline(trace: Trace, event: Event, decision: Decision) -> dict[str, Any]:
    """Return a request as JSON for the page.

    Args:
        trace: A request that the gate has decided.
        event: The event of its decision.
        decision: The gate's decision.
    """
    handler = _step("Handler", "skipped", "Not called")
    if trace.handled is not None:
        unchecked = trace.handled.unchecked
        facts = (
            ("get_decision().rule", trace.handled.rule),
            ("get_decision().code", trace.handled.code),
            ("get_decision().unchecked", unchecked),
        )
        handler = _step("Handler", "ok" if unchecked is None else "warn", "Called", *facts)
    return {
        "number": trace.number,
        "method": trace.method,
        "path": trace.path,
        "status": trace.status,
        "outcome": event.outcome,
        "reason": event.reason,
        "steps": [
            _step(
                "Server", "ok", f"Received {trace.method} {trace.path}", ("From", trace.peer)
            ),
            _gate(trace, event, decision),
            *_verification(trace, event, decision),
            handler,
        ],
    }


def _step(who: str, state: State, title: str, *facts: tuple[str, object]) -> Step:
    return {
        "who": who,
        "state": state,
        "title": title,
        "facts": [[name, str(value)] for name, value in facts],
    }


def _gate(trace: Trace, event: Event, decision: Decision) -> Step:
    source = "in the form's fields"
    if event.reason in _NO_PAIR:
        source = "not found"
    elif "x-captcha-ticket" in trace.names:
        source = "in the headers X-Captcha-…"
    elif trace.method == "GET":
        source = "in the challenge's two cookies"
    state: State = "ok"
    title = "A rule matches; the ticket must be verified"
    if not trace.asked:
        state, title = _OUTCOMES[event.outcome]
    return _step(
        "Gate",
        state,
        title.format(event.reason),
        ("Rule", event.rule),
        ("Pair", source),
        ("Claim", _CLAIMS[trace.first]),
        ("Fingerprint", decision.fingerprint or "none"),
    )


def _verification(trace: Trace, event: Event, decision: Decision) -> tuple[Step, Step]:
    """Return the steps of the verifier and of Tencent."""
    if not trace.asked:
        title = "Not called"
        if decision.fingerprint and event.reason in _NOT_CALLED:
            title = "Not called: probes found that Tencent is down"
        return _step("Verifier", "skipped", title), _step("Tencent", "skipped", "Not called")
    verdict, took = decision.verdict, ("Took", f"{event.seconds * 1000:.0f} ms in the gate")
    state, title = _OUTCOMES.get(event.outcome, ("ok", "The ticket is valid: let in"))
    title = title.format(event.reason)
    asked: list[tuple[str, object]] = [*trace.asked.items()]
    if verdict is None:
        if trace.reached is False:
            asked.append(("Call", "not read by Tencent"))
        asked.append(("Failure", trace.failure))
        verifier = _step("Verifier", state, title, took)
        return verifier, _step("Tencent", "refused", "No verdict", *asked)
    facts = (
        ("CaptchaCode", verdict.code),
        ("EvilLevel", verdict.evil_level),
        ("RequestId", verdict.request_id),
        took,
    )
    evil = f" with evil level {verdict.evil_level}" if verdict.evil_level else ""
    returned = f"Returned {verdict.code}{evil}, “{verdict.message}”"
    return (
        _step("Verifier", state, title, *facts),
        _step("Tencent", "ok" if verdict.passed else "refused", returned, *asked),
    )
