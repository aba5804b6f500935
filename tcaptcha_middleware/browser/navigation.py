"""Recognize visitors who open a page, and read the cookies of the challenge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcaptcha_middleware.extraction.pairs import NOTHING
from tcaptcha_middleware.extraction.sources import Cookie
from tcaptcha_middleware.responses import HTML, preferred

if TYPE_CHECKING:
    from tcaptcha_middleware.extraction.pairs import PartialPair
    from tcaptcha_middleware.models import RequestInfo


def is_navigation(request: RequestInfo) -> bool:
    """Return whether a browser opens a page, and not a script, a picture or a frame.

    https://www.w3.org/TR/fetch-metadata/#sec-fetch-dest-header
    """
    # Older browsers, and pages without https, do not send this header.
    place = request.header("Sec-Fetch-Dest")
    return request.kind == "http" and place in ([], ["document"]) and preferred(request) == HTML


class NavigationCookie(Cookie):
    """The cookies that the challenge wrote, for the page that it replaced.

    Any other request that the browser sends meanwhile would waste the ticket.
    """

    __slots__ = ()

    def find(self, request: RequestInfo) -> PartialPair:
        """Return every value of both cookies, if a page is opened."""
        return super().find(request) if is_navigation(request) else NOTHING
