"""What views with `mode="defer"` have in common: why to refuse, and in which words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.decision import get_decision, require_captcha
from tcaptcha_middleware.languages import DETAILS, language_of, preferred_language
from tcaptcha_middleware.models import EnvironHeaders, RequestInfo

if TYPE_CHECKING:
    from tcaptcha_middleware.languages import Language
    from tcaptcha_middleware.models import Allow, Reason, Refuse


def require_decision(request: Any, *, may_defer: bool = True) -> Allow:
    """Return what the gate decided about a request, or raise; see `require_captcha`.

    Args:
        request: The request.
        may_defer: Whether a refusal that is deferred counts.

    Raises:
        CaptchaRequired: If there is no such decision.
    """
    decision = get_decision(request)
    if may_defer and decision is not None and decision.deferred is not None:
        return decision
    return require_captcha(request)


def deferred_refusal(request: Any) -> Refuse | None:
    """Return the refusal that the view has to answer; None if the captcha passed.

    Raises:
        CaptchaRequired: If the gate decided nothing.
    """
    return require_decision(request).deferred


def detail_of(reason: Reason, request: Any) -> str:
    """Return what the visitor should do, in the language of Django's page or of the browser."""
    return DETAILS[visitor_language(request)][reason]


def visitor_language(request: Any) -> Language:
    """Return the language of Django's page, or of the browser."""
    # `LocaleMiddleware` sets it; without one, the browser's languages decide.
    language = language_of(getattr(request, "LANGUAGE_CODE", ""))
    headers = EnvironHeaders(request.META)
    info = RequestInfo("http", request.method, request.path, headers=headers)
    return language or preferred_language(info)
