"""A journey told step by step, as the page shows it. No I/O, and nothing secret.

The page adds what only a browser knows: what became of the challenge, and what the visitor
saw in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from tcaptcha_middleware.models import Reason

if TYPE_CHECKING:
    from tcaptcha_middleware.demo.journal import Journey
    from tcaptcha_middleware.models import Verdict
    from tcaptcha_middleware.operations.events import Event

Effect = dict[str, Any]
State = Literal["ok", "refused", "warn", "skipped"]

_NO_PAIR = (
    Reason.TICKET_MISSING,
    Reason.TICKET_AMBIGUOUS,
    Reason.REQUEST_MALFORMED,
    Reason.BODY_TOO_LARGE,
)


def told(journey: Journey, event: Event) -> dict[str, Any]:
    """Return the journey for the page.

    Args:
        journey: A request that the gate has decided about.
        event: What it decided.
    """
    return {
        "number": journey.number,
        "method": journey.method,
        "path": journey.path,
        "status": journey.status,
        "outcome": event.outcome,
        "reason": event.reason,
        "steps": _steps(journey, event),
    }


def _steps(journey: Journey, event: Event) -> list[Effect]:
    return [
        _step(
            "Server",
            "ok",
            f"Received {journey.method} {journey.path}",
            ("From", journey.peer),
        ),
        _gate(journey, event),
        _verifier(journey, event),
        _tencent(journey, event.decision.verdict),
        _handler(journey),
    ]


def _step(who: str, state: State, title: str, *facts: tuple[str, object]) -> Effect:
    return {
        "who": who,
        "state": state,
        "title": title,
        "facts": [[name, str(value)] for name, value in facts],
    }


def _gate(journey: Journey, event: Event) -> Effect:
    facts = (
        ("Rule", event.rule),
        ("Pair", _place(journey, event)),
        ("Claim", _REPLAY_STORE[journey.first]),
        ("Fingerprint", event.decision.fingerprint or "none"),
    )
    if journey.asked:
        return _step("Gate", "ok", "Covered, and worth a check", *facts)
    if event.outcome == "refused":
        return _step("Gate", "refused", f"Refused: {event.reason}", *facts)
    return _step("Gate", "warn", f"Let in unchecked: {event.reason}", *facts)


_REPLAY_STORE = {
    True: "first use of this ticket",
    False: "used before, so refused here",
    None: "none made",
}


def _place(journey: Journey, event: Event) -> str:
    if event.reason in _NO_PAIR:
        return "found nowhere"
    if "x-captcha-ticket" in journey.names:
        return "in the headers X-Captcha-…"
    if journey.method == "GET":
        return "in the challenge's two cookies"
    return "in the form's fields"


def _verifier(journey: Journey, event: Event) -> Effect:
    if not journey.asked:
        why = "Not asked"
        if event.decision.fingerprint and event.reason in _NOT_CALLED:
            why = "Not asked: five calls in a row failed, so Tencent is left alone for 10 s"
        return _step("Verifier", "skipped", why)
    took = ("Took", f"{event.seconds * 1000:.0f} ms for the whole walk")
    verdict = event.decision.verdict
    facts = (took,) if verdict is None else (*_read(verdict), took)
    if event.outcome == "refused":
        return _step("Verifier", "refused", f"Refused: {event.reason}", *facts)
    if event.outcome == "unchecked":
        return _step("Verifier", "warn", f"Let in unchecked: {event.reason}", *facts)
    return _step("Verifier", "ok", "Positive proof: let in", *facts)


_NOT_CALLED = (Reason.VERIFIER_UNAVAILABLE, "unavailable")


def _read(verdict: Verdict) -> tuple[tuple[str, object], ...]:
    return (
        ("CaptchaCode", verdict.code),
        ("EvilLevel", verdict.evil_level),
        ("RequestId", verdict.request_id),
    )


def _tencent(journey: Journey, verdict: Verdict | None) -> Effect:
    if not journey.asked:
        return _step("Tencent", "skipped", "Not called")
    asked = tuple(journey.asked.items())
    if verdict is None:
        note = () if journey.reached is not False else (("Call", "not read by Tencent"),)
        return _step(
            "Tencent", "refused", "No verdict", *asked, *note, ("Failure", journey.failure)
        )
    evil = f" with evil level {verdict.evil_level}" if verdict.evil_level else ""
    said = f"Said {verdict.code}{evil}, “{verdict.message}”"
    return _step("Tencent", "ok" if verdict.passed else "refused", said, *asked)


def _handler(journey: Journey) -> Effect:
    found = journey.handled
    if found is None:
        return _step("Handler", "skipped", "Not called")
    facts = (
        ("decision().rule", found.rule),
        ("decision().code", found.code),
        ("decision().unchecked", found.unchecked),
    )
    return _step("Handler", "ok" if found.unchecked is None else "warn", "Called", *facts)
