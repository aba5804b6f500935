"""What a refused request is answered with: a responder's word, the challenge, a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.operating import reports
from tcaptcha_middleware.responses import Response, respond

if TYPE_CHECKING:
    from tcaptcha_middleware.browser.half import BrowserHalf
    from tcaptcha_middleware.coverage import Coverage
    from tcaptcha_middleware.models import Refuse, Request


def answer_to(
    coverage: Coverage, request: Request, refuse: Refuse, browser: BrowserHalf
) -> Any:
    """Return a `Response`, or an application that answers.

    Args:
        coverage: The rule that covers the request.
        request: The request's head.
        refuse: The decision.
        browser: Knows the challenge that may be shown at once.
    """
    responder = coverage.settings.responder
    if responder is not None:
        try:
            return _answer(responder(request, refuse))
        except Exception as error:
            reports.broken_hook(coverage.name, "responder", error)
    challenge = browser.challenge(coverage, request, refuse.reason)
    return challenge or respond(refuse.reason, request)


def _answer(answer: object) -> object:
    if isinstance(answer, Response) or callable(answer):
        return answer
    raise TypeError(f"a responder returns an application or a Response, not {answer!r}")
