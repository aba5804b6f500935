"""The decision flow for protected requests: the whole policy, written once for sync and async.

    switch, preflight, when -> extract -> screen -> slot -> claim -> verify -> allow or refuse

A refusal is then only observed, or deferred to a view, if the rule says so. During an outage
the rule may let requests in, or disaster tickets.

A generator without I/O. It yields effects, is sent their results or thrown their exceptions,
and returns `Allow` or `Refuse`. It never raises, whatever the client, the verifier, the replay
store or a hook does.
"""

from __future__ import annotations

import os
from hashlib import sha256
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from tcaptcha_middleware.client_ip import usable
from tcaptcha_middleware.effects import CallHook, Claim, ReadBody, Release, Verify, WaitForSlot
from tcaptcha_middleware.errors import (
    MisconfiguredError,
    OutageError,
    ReplayStoreError,
    RequestBodyError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.extraction.pairs import PartialPair, is_ordinary, screen
from tcaptcha_middleware.models import (
    FINGERPRINT,
    Allow,
    Reason,
    Refuse,
    Submission,
    Unchecked,
    Verdict,
)
from tcaptcha_middleware.operations import Event, log
from tcaptcha_middleware.rules import AmbiguousTarget
from tcaptcha_middleware.tencent.actions import refusal
from tcaptcha_middleware.tencent.disaster import FRESH, is_credible

if TYPE_CHECKING:
    from tcaptcha_middleware.effects import Flow
    from tcaptcha_middleware.models import Decision, RequestInfo
    from tcaptcha_middleware.rules import CompiledRule, MatchedRule, Shared

# In seconds.
_CLOCK_SKEW = 30.0  # how much longer than its ticket a claim lasts
_SLOT_WAIT = 0.5
_DISASTER_PER_IP = 60.0
# A disaster ticket that is stamped by a fast clock stays fresh for up to twice as long.
_DISASTER_SEEN = 2 * FRESH + 1.0
_SLOW_STORE = 0.05

_LATE_RELEASES = 8  # after each verification
# For tokens of claims in this process's memory.
_serial_number = count()
# Answers after which a ticket can never pass, although it was not used before.
_FINAL = (Reason.TICKET_REJECTED, Reason.TICKET_EXPIRED)
# What the gate refuses even if the rule defers, because it is not about the captcha.
_NEVER_DEFERRED = (Reason.REQUEST_MALFORMED, Reason.TARGET_AMBIGUOUS)


def decide(rule: MatchedRule, request: RequestInfo) -> Flow[Decision]:
    """Decide whether a protected request may pass, and report the decision.

    Args:
        rule: What `Guard.route` returned for the request.
        request: The request's head.

    Yields:
        Effects; the adapter performs each and sends its result.
    """
    shared, name = rule.shared, rule.name
    began = 0.0 if shared.on_event is None else shared.clock()
    enforced = rule.always_enforces or rule.enforces(request)
    try:
        decision = yield from _judge(rule, request, enforced)
    except RequestBodyError as error:
        log.unreadable_body(rule, error)
        decision = Refuse(Reason.REQUEST_MALFORMED, name)
    except VerifierError as error:
        log.no_verdict(rule, error)
        decision = Refuse(_reason(error), name)
    except Exception as error:
        log.broken_hook(rule, "a hook", error)
        decision = Refuse(Reason.MISCONFIGURED, name)
    if isinstance(decision, Refuse):
        defers = rule.settings.mode == "defer" and decision.reason not in _NEVER_DEFERRED
        if not enforced:
            log.would_refuse(rule, decision.reason)
        if defers or not enforced:
            decision = Allow(
                name,
                decision.verdict,
                Unchecked.DEFERRED if enforced else Unchecked.OBSERVED,
                refused=decision.reason,
                fingerprint=decision.fingerprint,
                deferred=decision if enforced else None,
            )
    if shared.on_event is not None:
        try:
            shared.on_event(Event.of(decision, shared.clock() - began))
        except Exception as error:
            log.broken_hook(rule, "on_event", error)
    return decision


def requirement(rule: MatchedRule, request: RequestInfo) -> Flow[tuple[bool, bool]]:
    """Return if a visitor needs a ticket, and if requests without one pass during an outage.

    Pages ask before they show the challenge. If it is unknown, a ticket is needed.

    Args:
        rule: The rule that will judge the visitor's request.
        request: That request, with the headers and the address of this one.
    """
    settings = rule.settings
    try:
        if rule.shared.switch.is_off or not (rule.always_enforces or rule.enforces(request)):
            return False, False
        if isinstance(rule, AmbiguousTarget):
            return True, False
        if settings.when is not None:
            needed = yield CallHook(settings.when, request, settings.check_timeout)
            if needed is False:
                return False, False
    except Exception as error:
        log.broken_hook(rule, "when", error)
        return True, False
    return True, settings.on_unavailable == "allow" and rule.health.is_down


def _judge(rule: MatchedRule, request: RequestInfo, enforced: bool) -> Flow[Decision]:
    name, shared = rule.name, rule.shared
    first_piece = None
    # Bypass: the kill switch, a real preflight, or the application's own `when`.
    if shared.switch.is_off:
        return Allow(name, unchecked=Unchecked.SWITCHED_OFF)
    if rule.passes_preflight and request.is_preflight:
        # HTTP/2 and chunked requests may have a body that no header announces.
        try:
            first_piece = yield ReadBody(rule.settings.body_timeout, enforced)
        except TimeoutError as error:
            raise RequestBodyError("the body came too slowly") from error
        if not any(first_piece):  # neither a byte, nor more to come
            return Allow(name, unchecked=Unchecked.PREFLIGHT)
    # Several rules match, and none is strict enough for all. A preflight passed above.
    if isinstance(rule, AmbiguousTarget):
        return Refuse(Reason.TARGET_AMBIGUOUS, name)
    settings = rule.settings
    if settings.when is not None:
        required = yield CallHook(settings.when, request, settings.check_timeout)
        if required is False:
            return Allow(name, unchecked=Unchecked.NOT_ASKED)
        if required is not True:
            kind = type(required).__name__
            raise MisconfiguredError(f"`when` must return True or False, got {kind}")

    # Extract, and screen for what is not worth a call.
    pair = rule.extractor.find_in_head(request)
    if isinstance(pair, PartialPair):  # incomplete
        pair = yield from rule.extractor.find_in_body(
            request, pair, first_piece, rule=rule, may_disconnect=enforced
        )
    if isinstance(pair, Reason):
        # During an outage a page cannot load the captcha, so it cannot send a ticket.
        if pair is Reason.TICKET_MISSING and _try_fail_open(rule):
            return Allow(name, unchecked=Unchecked.UNAVAILABLE)
        return Refuse(pair, name)
    # What identifies the pair in a replay store. `screen` refuses a lone surrogate.
    text = "\n".join(pair)
    key = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    peer = settings.client_ip(request)
    if not isinstance(peer, str):
        raise MisconfiguredError(f"`client_ip` must return a str, got {type(peer).__name__}")
    user_ip = usable(peer) or settings.fallback_ip
    if user_ip is None:
        raise MisconfiguredError("the visitor's address is unknown: set `client_ip`")
    submission = Submission(*pair, user_ip, name)
    reason = None if is_ordinary(text) else screen(pair)
    if reason is None:
        return (yield from _in_slot(rule, submission, key))
    if reason is Reason.DISASTER_TICKET and _accepts_disaster(rule, submission, key):
        return Allow(name, unchecked=Unchecked.DISASTER_TICKET)
    return Refuse(reason, name, fingerprint=key[:FINGERPRINT])


def _in_slot(rule: CompiledRule, submission: Submission, key: str) -> Flow[Decision]:
    """Take a verification slot, and claim and verify the ticket in it."""
    shared, health, fingerprint = rule.shared, rule.health, key[:FINGERPRINT]
    if not health.slots.enter():
        # While the service is down, slots are held by verifications that will not be answered.
        if health.is_down:
            return _unavailable(rule, Reason.VERIFIER_UNAVAILABLE, fingerprint)
        if not (yield WaitForSlot(health.slots, _SLOT_WAIT)):
            log.overloaded(rule, health.slots.limit)
            return _unavailable(rule, Reason.OVERLOADED, fingerprint)
    try:
        # During an outage nothing is claimed or sent. `is_up` is an attribute; asked first.
        if not health.verification.is_up and health.is_down:
            return _unavailable(rule, Reason.VERIFIER_UNAVAILABLE, fingerprint)
        decision = yield from _claim_and_verify(rule, submission, key)
    finally:
        health.slots.leave()
    # After the verification, so a slow store takes no time from it.
    if shared.unreleased and shared.replay_monitor.answers:
        yield from _release_late(rule)
    return decision


def _claim_and_verify(rule: CompiledRule, submission: Submission, key: str) -> Flow[Decision]:
    """Claim the ticket, call the verifier once, and decide.

    If the request is cancelled meanwhile, the claim stays: the ticket may have been sent.
    """
    shared, captcha, fingerprint = rule.shared, rule.captcha, key[:FINGERPRINT]
    began = shared.clock()
    deadline = began + rule.settings.check_timeout
    # Unique among all that use the store.
    token = os.urandom(8).hex() if shared.memory is None else str(next(_serial_number))
    not_claimed = yield from _claim(rule, key, token, began)
    if not_claimed is not None:
        retry_after = rule.health.retry_after
        return Refuse(not_claimed, rule.name, None, fingerprint, retry_after)
    verdict: Verdict | None = None
    try:
        # The health of the service learns from the errors that leave this block.
        with rule.health.verification:
            try:
                timeout = max(0.0, deadline - shared.clock())
                answer = yield Verify(rule.verifier, submission, timeout)
            except TimeoutError as error:
                raise OutageError("the verifier took too long", timed_out=True) from error
            if not isinstance(answer, Verdict):
                kind = type(answer).__name__
                raise MisconfiguredError(f"the verifier returned {kind}, not a Verdict")
            verdict = answer
            reason = None if verdict.passed else refusal(verdict, captcha.codes)
    except VerifierError as error:
        log.no_verdict(rule, error)
        if not error.sent:
            yield from _release(rule, key, token)
        if isinstance(error, OutageError):
            return _unavailable(rule, Reason.VERIFIER_UNAVAILABLE, fingerprint, verdict)
        reason = _reason(error)
    except Exception as error:
        log.broken_verifier(rule, error, submission)
        reason = Reason.MISCONFIGURED
    else:
        # The claim of a ticket that can never pass is dropped if the store is the only
        # protection from replay: made-up tickets must not fill it.
        if reason in _FINAL and not captcha.refuses_reuse:
            yield from _release(rule, key, token)
        max_score = rule.settings.max_score
        if reason is None and max_score is not None and (verdict.score or 0) > max_score:
            reason = Reason.RISK_DENIED
    if reason is None:
        return Allow(rule.name, verdict, fingerprint=fingerprint)
    return Refuse(reason, rule.name, verdict, fingerprint, rule.health.retry_after)


def _claim(rule: CompiledRule, key: str, token: str, began: float) -> Flow[Reason | None]:
    """Claim the ticket; return why the request is refused, or None to go on."""
    shared, timeout = rule.shared, rule.settings.check_timeout / 2
    lifetime, monitor = rule.captcha.lifetime + _CLOCK_SKEW, shared.replay_monitor
    # The common case first: `failures` is an attribute, and nearly always 0.
    may_ask = monitor.failures == 0 or monitor.may_ask(began)
    claimed: object
    try:
        if not may_ask:
            raise ReplayStoreError("skipped after several timeouts")
        if shared.memory is not None:  # it never waits, so it is called without an effect
            claimed = shared.memory.claim(key, token, lifetime)
        else:
            claimed = yield Claim(shared.replay_store, key, token, lifetime, timeout)
        # Checked after the claim, because a store may find out while it is called.
        if not rule.captcha.refuses_reuse and shared.loses_claims:
            raise ReplayStoreError("the store may have lost claims")
    except GeneratorExit:  # the request was cancelled, and the claim may have been made
        shared.unreleased.append((key, token, began + lifetime))
        raise
    except Exception as error:
        is_slow = _note_store_failure(shared, began) or isinstance(error, TimeoutError)
        # If the vendor may accept a ticket twice, the store is the only protection from replay.
        proceed = shared.on_replay_store_error == "verify" and rule.captcha.refuses_reuse
        log.replay_store_failed(rule, error, proceed=proceed)
        if proceed:
            return None
        # The claim may have been made, and only its answer lost. It is released, but later if
        # the store is slow, because the visitor is waiting.
        if may_ask and is_slow:
            shared.unreleased.append((key, token, began + lifetime))
        elif may_ask:
            yield from _release(rule, key, token)
        return Reason.VERIFIER_UNAVAILABLE
    monitor.answers = True
    if monitor.failures:
        monitor.succeeded()
    if not isinstance(claimed, bool):
        kind = type(claimed).__name__
        raise MisconfiguredError(f"the replay store returned {kind}, not True or False")
    return None if claimed else Reason.TICKET_REUSED


def _note_store_failure(shared: Shared, began: float) -> bool:
    """Return whether the store was slow; one that fails at once delays no request."""
    now = shared.clock()
    is_slow = now - began >= _SLOW_STORE
    shared.replay_monitor.answers = False
    if is_slow:
        shared.replay_monitor.failed(now)
    return is_slow


def _release(rule: CompiledRule, key: str, token: str, until: float = inf) -> Flow[bool]:
    """Release a claim, now or after a later verification; return whether it is done."""
    shared, timeout = rule.shared, rule.settings.check_timeout / 2
    began = shared.clock()
    # A claim that stays expires by itself; until then the visitor has to solve again.
    until = min(until, began + rule.captcha.lifetime + _CLOCK_SKEW)
    if shared.replay_monitor.may_ask(began):
        try:
            yield Release(shared.replay_store, key, token, timeout)
        except GeneratorExit:  # the request was cancelled; a later one releases the claim
            shared.unreleased.append((key, token, until))
            raise
        except Exception as error:
            _note_store_failure(shared, began)
            log.release_failed(rule, error)
        else:
            return True
    shared.unreleased.append((key, token, until))
    return False


def _release_late(rule: CompiledRule) -> Flow[None]:
    """Release a few of the claims that could not be released before, the oldest first."""
    shared = rule.shared
    for _ in range(min(_LATE_RELEASES, len(shared.unreleased))):
        try:
            key, token, until = shared.unreleased.popleft()
        except IndexError:  # other threads take from it, too
            return
        began = shared.clock()
        if began >= until:
            continue  # it has expired
        released = yield from _release(rule, key, token, until)
        # The visitor waits for the response.
        if not released or shared.clock() - began >= _SLOW_STORE:
            return


def _unavailable(
    rule: CompiledRule, reason: Reason, fingerprint: str, verdict: Verdict | None = None
) -> Decision:
    """Fail open if an outage is established and the rule wants it; otherwise refuse."""
    if _try_fail_open(rule):
        return Allow(rule.name, verdict, Unchecked.UNAVAILABLE, fingerprint=fingerprint)
    return Refuse(reason, rule.name, verdict, fingerprint, rule.health.retry_after)


def _try_fail_open(rule: CompiledRule) -> bool:
    # Only an outage that our own probes have established opens the gate. No client can cause
    # that, and no failed verification opens it by itself.
    if rule.settings.on_unavailable != "allow" or not rule.health.is_down:
        return False
    return rule.spend_budget("the captcha service is down")


def _accepts_disaster(rule: CompiledRule, submission: Submission, key: str) -> bool:
    """Decide whether a disaster ticket, which anyone can type, is accepted.

    Only if the rule wants it, during an established outage, for a fresh ticket of the rule's
    captcha, once per ticket, once a minute per address, and within the budget. Two replay
    stores in this process's memory count them.
    """
    allowed, now = rule.settings.disaster_tickets == "allow", rule.shared.wall_clock()
    if not allowed or not is_credible(submission.ticket, rule.captcha.app_id, now):
        return False
    # In a total outage only disaster tickets arrive, so they have to lead to a probe.
    rule.health.request_probe()
    if not rule.health.is_down:
        return False
    try:
        first = rule.disaster_per_ip.claim(submission.user_ip, "", _DISASTER_PER_IP)
        accepted = first and rule.disaster_seen.claim(key, "", _DISASTER_SEEN)
    except ReplayStoreError:
        return False
    return accepted and rule.spend_budget("a disaster ticket while the captcha service is down")


def _reason(error: VerifierError) -> Reason:
    if isinstance(error, MisconfiguredError):
        return Reason.MISCONFIGURED
    throttled = isinstance(error, ThrottledError)
    return Reason.OVERLOADED if throttled else Reason.VERIFIER_UNAVAILABLE
