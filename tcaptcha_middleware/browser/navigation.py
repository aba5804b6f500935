"""Visitors who open a page, told from scripts and pictures, and the cookies they bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcaptcha_middleware.extraction.pairs import NOTHING
from tcaptcha_middleware.extraction.sources import Cookie
from tcaptcha_middleware.responses import HTML, preferred

if TYPE_CHECKING:
    from tcaptcha_middleware.extraction.pairs import PartialPair
    from tcaptcha_middleware.models import RequestInfo


def is_navigation(request: RequestInfo) -> bool:
    """Tell whether a browser opens a page; scripts, pictures and frames want no challenge.

    https://www.w3.org/TR/fetch-metadata/#sec-fetch-dest-header
    """
    # Older browsers, and pages without https, send no such header.
    place = request.header("Sec-Fetch-Dest")
    return request.kind == "http" and place in ([], ["document"]) and preferred(request) == HTML


class NavigationCookie(Cookie):
    """The cookies that the challenge wrote, for the very page that it stood on.

    Whatever else the browser sends meanwhile would spend the ticket for nothing.
    """

    __slots__ = ()

    def find(self, request: RequestInfo) -> PartialPair:
        """Return every value of both cookies, where a page is opened."""
        return super().find(request) if is_navigation(request) else NOTHING
