"""The walk's second part: from a ticket that is worth a call to a decision.

A generator without I/O: it yields `Claim` and `Verify`, is sent the answers or thrown the
failures, and returns what is decided. Only an outage can open the gate here, and only where
the rule says so.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tcaptcha_middleware.effects import Claim, Verify
from tcaptcha_middleware.errors import (
    MisconfiguredError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.models import Allow, Reason, Refuse, Unchecked, Verdict
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.replay.fingerprint import fingerprint, replay_key
from tcaptcha_middleware.tencent.codes import judge
from tcaptcha_middleware.tencent.disaster import FRESH, is_credible

if TYPE_CHECKING:
    from tcaptcha_middleware.effects import Flow
    from tcaptcha_middleware.models import Decision, Submission
    from tcaptcha_middleware.rules import CompiledRule

# A ticket is good for five minutes (DescribeCaptchaResult); clocks may differ a little.
_CLAIMED = 330.0
_ONE_A_MINUTE = 60.0


def verify(coverage: CompiledRule, ticket: Submission) -> Flow[Decision]:
    """Claim the ticket, have it checked once, and decide.

    Args:
        coverage: The rule at work.
        ticket: The pair, screened.
    """
    name, upstream, key = coverage.name, coverage.upstream, replay_key(ticket)
    mark = fingerprint(key)
    verdict: Verdict | None = None
    try:
        if not upstream.places.enter():
            yield from upstream.queue()
        # From here: to wait for a place must not look as if the verifier were slow.
        deadline = time.monotonic() + coverage.settings.check_timeout
        try:
            # Before the claim, which would be lost; but only who asks may take a probe's turn,
            # or tell how the upstream is: anybody can send a spent ticket.
            upstream.check()
            if not (yield from _claim(coverage, key)):
                return Refuse(Reason.TICKET_REUSED, name, fingerprint=mark)
            with upstream:
                verdict = yield from _verdict(coverage, ticket, deadline)
                reason = judge(verdict, ticket, coverage.action.codes)
        finally:
            upstream.places.leave()
    except VerifierError as error:
        reason = reason_of(error)
        log.no_verdict(name, error)
        if isinstance(error, OutageError) and _opens(coverage):
            return Allow(
                name, verdict, Unchecked.UNAVAILABLE, fingerprint=mark, coverage=coverage
            )
    except Exception as error:
        reason = Reason.MISCONFIGURED
        log.broken_verifier(name, error, ticket)
    if reason is None:
        return Allow(name, verdict, fingerprint=mark, coverage=coverage)
    return Refuse(reason, name, verdict, fingerprint=mark)


def reason_of(error: VerifierError) -> Reason:
    """Return what a client is told where there is no verdict."""
    if isinstance(error, MisconfiguredError):
        return Reason.MISCONFIGURED
    overloaded = isinstance(error, ThrottledError)
    return Reason.OVERLOADED if overloaded else Reason.VERIFIER_UNAVAILABLE


def accepts_disaster(coverage: CompiledRule, ticket: Submission) -> Flow[bool]:
    """Tell whether a disaster ticket is let through, and note that it was.

    Only where the rule says so and while our own calls say that Tencent is down; only a
    fresh one of the rule's captcha, once; one a minute from an address, within the budget.
    """
    allowed = coverage.settings.disaster_tickets == "allow"
    if not allowed or not is_credible(ticket.ticket, coverage.app_id, time.time()):
        return False
    yield from _look_again(coverage, ticket)
    accepted = (
        coverage.upstream.is_down
        and coverage.disaster_per_ip.claim(ticket.user_ip, _ONE_A_MINUTE)
        and coverage.disaster_seen.claim(replay_key(ticket), 2 * FRESH)
        and _affords(coverage)
    )
    if accepted:
        log.let_through(coverage.name, "a disaster ticket, while Tencent is down")
    return accepted


def _look_again(coverage: CompiledRule, ticket: Submission) -> Flow[None]:
    """Have Tencent asked, where it is down and a probe is due: any answer says that it is up.

    Where nothing but disaster tickets comes, nothing else would find out.
    """
    if not coverage.upstream.wants_probe:
        return
    deadline = time.monotonic() + coverage.settings.check_timeout
    try:
        with coverage.upstream:
            verdict = yield from _verdict(coverage, ticket, deadline)
            judge(verdict, ticket, coverage.action.codes)
    except VerifierError as error:
        log.no_verdict(coverage.name, error)
    except Exception as error:
        log.broken_verifier(coverage.name, error, ticket)


def _claim(coverage: CompiledRule, key: str) -> Flow[bool]:
    shared = coverage.shared
    # A store that hangs leaves the check its time, or it would look as if Tencent hung.
    timeout = coverage.settings.check_timeout / 2
    try:
        return (yield Claim(shared.replay_store, key, _CLAIMED, timeout)) is True
    except Exception as error:
        # Where Tencent may not refuse a second use, to go on would be to let everyone replay.
        goes_on = shared.on_replay_store_error == "verify" and coverage.action.refuses_reuse
        then = "Tencent alone judges" if goes_on else "the request is refused"
        log.replay_store_failed(coverage.name, error, then)
        if goes_on:
            return True
        raise VerifierError("tickets cannot be claimed") from error


def _opens(coverage: CompiledRule) -> bool:
    opens = coverage.settings.on_unavailable == "allow" and _affords(coverage)
    if opens:
        log.let_through(coverage.name, "Tencent is down")
    return opens


def _affords(coverage: CompiledRule) -> bool:
    if coverage.budget.spend(time.monotonic()):
        return True
    log.budget_spent(coverage.name, coverage.settings.allow_per_minute)
    return False


def _verdict(coverage: CompiledRule, ticket: Submission, deadline: float) -> Flow[Verdict]:
    try:
        answer = yield Verify(coverage.verifier, ticket, _left(deadline))
    except TimeoutError as error:
        raise OutageError("the verifier took too long") from error
    if isinstance(answer, Verdict):
        return answer
    raise MisconfiguredError(f"the verifier returned {type(answer).__name__}, not a Verdict")


def _left(deadline: float) -> float:
    return max(0.0, deadline - time.monotonic())
