"""The steps of one request, as the page shows them. No I/O, and no secrets.

The page adds the steps that only a browser knows: the challenge, and the result for the user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tcaptcha_middleware.models import Reason

if TYPE_CHECKING:
    from tcaptcha_middleware.demo.journal import Trace
    from tcaptcha_middleware.models import Decision, Verdict
    from tcaptcha_middleware.operations import Event

Step = dict[str, Any]
State = Literal["ok", "refused", "warn", "skipped"]

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


def timeline(trace: Trace, event: Event, decision: Decision) -> dict[str, Any]:
    """Return a request as JSON for the page.

    Args:
        trace: A request that the gate has decided.
        event: The event of its decision.
        decision: The gate's decision.
    """
    received = f"Received {trace.method} {trace.path}"
    return {
        "number": trace.number,
        "method": trace.method,
        "path": trace.path,
        "status": trace.status,
        "outcome": event.outcome,
        "reason": event.reason,
        "steps": [
            _step("Server", "ok", received, ("From", trace.peer)),
            _gate(trace, event, decision),
            _verifier(trace, event, decision),
            _tencent(trace, decision.verdict),
            _handler(trace),
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
    facts = (
        ("Rule", event.rule),
        ("Pair", _source(trace, event)),
        ("Claim", _CLAIMS[trace.first]),
        ("Fingerprint", decision.fingerprint or "none"),
    )
    if trace.asked:
        return _step("Gate", "ok", "A rule matches; the ticket must be verified", *facts)
    if event.outcome == "refused":
        return _step("Gate", "refused", f"Refused: {event.reason}", *facts)
    return _step("Gate", "warn", f"Let in unchecked: {event.reason}", *facts)


def _source(trace: Trace, event: Event) -> str:
    if event.reason in _NO_PAIR:
        return "not found"
    if "x-captcha-ticket" in trace.names:
        return "in the headers X-Captcha-…"
    if trace.method == "GET":
        return "in the challenge's two cookies"
    return "in the form's fields"


def _verifier(trace: Trace, event: Event, decision: Decision) -> Step:
    if not trace.asked:
        title = "Not called"
        if decision.fingerprint and event.reason in _NOT_CALLED:
            title = "Not called: probes found that Tencent is down"
        return _step("Verifier", "skipped", title)
    facts: list[tuple[str, object]] = []
    if (verdict := decision.verdict) is not None:
        facts = [
            ("CaptchaCode", verdict.code),
            ("EvilLevel", verdict.evil_level),
            ("RequestId", verdict.request_id),
        ]
    facts.append(("Took", f"{event.seconds * 1000:.0f} ms in the gate"))
    state, title = _OUTCOMES.get(event.outcome, ("ok", "The ticket is valid: let in"))
    return _step("Verifier", state, title.format(event.reason), *facts)


def _tencent(trace: Trace, verdict: Verdict | None) -> Step:
    if not trace.asked:
        return _step("Tencent", "skipped", "Not called")
    facts: list[tuple[str, object]] = [*trace.asked.items()]
    if verdict is None:
        if trace.reached is False:
            facts.append(("Call", "not read by Tencent"))
        return _step("Tencent", "refused", "No verdict", *facts, ("Failure", trace.failure))
    evil = f" with evil level {verdict.evil_level}" if verdict.evil_level else ""
    title = f"Said {verdict.code}{evil}, “{verdict.message}”"
    return _step("Tencent", "ok" if verdict.passed else "refused", title, *facts)


def _handler(trace: Trace) -> Step:
    decision = trace.handled
    if decision is None:
        return _step("Handler", "skipped", "Not called")
    facts = (
        ("get_decision().rule", decision.rule),
        ("get_decision().code", decision.code),
        ("get_decision().unchecked", decision.unchecked),
    )
    return _step("Handler", "ok" if decision.unchecked is None else "warn", "Called", *facts)
