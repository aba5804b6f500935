"""`captcha_required`: marks a view, so it gets a rule, and locks it for other requests."""

from __future__ import annotations

from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.http import HttpResponse

from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.integrations.django.deferral import require_decision
from tcaptcha_middleware.integrations.marks import Mark, attach, wrapped
from tcaptcha_middleware.matching.patterns import SAFE_METHODS
from tcaptcha_middleware.models import Unchecked


def captcha_required(view: Any = None, /, **settings: Any) -> Any:
    """Require a captcha for every request of a view but `GET` and `HEAD`.

    `CaptchaMiddleware` adds a rule for each path that leads to the view. A request that has not
    come through it never runs the view: it is answered with 500, and logged.

    With `mode="defer"` the view runs also if the captcha did not pass, and has to refuse: with
    a form that is a `CaptchaFormMixin`, or if `get_decision(request).refused` is not None.

    Args:
        view: The view; for a class, `method_decorator(captcha_required, name="dispatch")`.
        settings: Arguments of `Rule` for its requests, without the text.

    Raises:
        ConfigurationError: If a setting is not valid, or the view is decorated twice.
        TypeError: If a setting is unknown.
    """
    # Made once: `method_decorator` applies a decorator for each request.
    own = Mark(settings, ["UNSAFE"], may_defer=True) if settings else _DEFAULT
    return partial(_locked, own) if view is None else _locked(own, view)


_DEFAULT = Mark(methods=["UNSAFE"])


def _locked(own: Mark, view: Any) -> Any:
    locked = wrapped(view, partial(_lock, own), is_async=iscoroutinefunction(view))
    attach(own, locked)
    return locked


def _lock(own: Mark, /, request: Any, *_: Any, **__: Any) -> Any:
    """Return the answer to a preflight, or None if the view may run."""
    if request.method in SAFE_METHODS:
        return None
    decision = get_decision(request)
    if decision is not None and decision.unchecked is Unchecked.PREFLIGHT:
        # It came without a ticket. What it asks about is said by the middleware for CORS.
        return HttpResponse()
    require_decision(request, may_defer=own.defers)
    return None
