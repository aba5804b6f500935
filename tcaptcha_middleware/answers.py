"""What a refused request is answered with: a responder's word, the challenge, a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.operations import log
from tcaptcha_middleware.responses import PlainResponse, respond

if TYPE_CHECKING:
    from tcaptcha_middleware.browser.endpoints import BrowserEndpoints
    from tcaptcha_middleware.models import Refuse, RequestInfo
    from tcaptcha_middleware.rules import CompiledRule


def answer_to(
    coverage: CompiledRule, request: RequestInfo, refuse: Refuse, browser: BrowserEndpoints
) -> Any:
    """Return a `PlainResponse`, or an application that answers.

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
            log.broken_hook(coverage.name, "responder", error)
    challenge = browser.challenge(coverage, request, refuse.reason)
    return challenge or respond(refuse.reason, request)


def _answer(answer: object) -> object:
    if isinstance(answer, PlainResponse) or callable(answer):
        return answer
    raise TypeError(f"a responder returns an application or a Response, not {answer!r}")
