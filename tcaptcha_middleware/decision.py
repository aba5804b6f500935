"""What the gate decided about a request, for handlers of every framework."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tcaptcha_middleware.asgi import SCOPE_KEY
from tcaptcha_middleware.errors import CaptchaRequired
from tcaptcha_middleware.models import Allow, Unchecked
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.wsgi import ENVIRON_KEY

_NOT_PASSED = (Unchecked.PREFLIGHT, Unchecked.DEFERRED)
_HOLDERS = (("scope", SCOPE_KEY), ("environ", ENVIRON_KEY), ("env", ENVIRON_KEY))


def get_decision(request: Any) -> Allow | None:
    """Return what the gate decided about `request`, or None if no rule covers it.

    Args:
        request: A request or websocket of BlackSheep, Bottle, Django, Django REST framework,
            Falcon, FastAPI, Flask, Litestar, Pyramid, Quart or Starlette; or an ASGI scope or
            a WSGI environ.

    Raises:
        TypeError: If it is not one of these.
    """
    decisions = _decisions(request)
    return decisions[-1] if decisions else None


def require_captcha(request: Any, rule: str | None = None, *, strict: bool = False) -> Allow:
    """Return what the gate decided about `request`, or raise if it decided nothing.

    The second lock, for handlers that can be reached in a way that the gate cannot know, such
    as a mount or a method override inside the application: it fails closed. A request that
    the gate let pass without a verdict counts too, as with the kill switch, `mode="observe"`
    or `on_unavailable="allow"`. A CORS preflight does not, nor does a refusal that is deferred.

    Args:
        request: See `get_decision`.
        rule: The name of the rule that has to have let the request pass; any by default.
        strict: Whether a passed verdict is required.

    Raises:
        CaptchaRequired: If there is no such decision. Frameworks answer 500. It is logged at
            ERROR, at most once a minute for each call.
        TypeError: If `request` is not a request.
    """
    decisions = _decisions(request)
    for decision in decisions:
        passed = decision.verdict is not None and decision.verdict.passed
        counts = decision.unchecked not in _NOT_PASSED and (passed or not strict)
        if counts and rule in (None, decision.rule):
            return decision
    error = CaptchaRequired(_problem(decisions, rule))
    caller = sys._getframe(1)  # noqa: SLF001  the place that the log names
    log.captcha_required(f"{caller.f_code.co_filename}:{caller.f_lineno}", rule, error)
    raise error


def _problem(decisions: tuple[Allow, ...], rule: str | None) -> str:
    if not decisions:
        return (
            "no rule of the gate covered this request: add one that matches it, and check that "
            "the middleware is installed"
        )
    names = ", ".join(f"{decision.rule!r}" for decision in decisions)
    if rule is not None and all(decision.rule != rule for decision in decisions):
        return f"the rule {rule!r} did not cover this request, but {names} did"
    return f"no captcha was verified for this request; the rule was {names}"


def _decisions(request: Any) -> tuple[Allow, ...]:
    """Return the decisions of all guards about a request, the outermost first."""
    for holder, key in _HOLDERS:
        inner = getattr(request, holder, None)
        if isinstance(inner, Mapping):
            return _stored(inner, key)
    if isinstance(request, Mapping):
        return _stored(request, SCOPE_KEY) or _stored(request, ENVIRON_KEY)
    raise TypeError(f"{type(request).__name__} holds neither an ASGI scope nor a WSGI environ")


def _stored(holder: Mapping[str, Any], key: str) -> tuple[Allow, ...]:
    # Any other value was forged.
    decision, decisions = holder.get(key), []
    while isinstance(decision, Allow):
        decisions.append(decision)
        decision = decision.outer
    return tuple(reversed(decisions))
