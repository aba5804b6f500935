"""How a browser opens a page: itself, in a frame, or by a library that fetches pages.

A library shows what it has fetched within the current page, and the challenge cannot run there.
Its refusal makes the library load the page in full, which then shows the challenge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from tcaptcha_middleware.responses import HTML, TEXT, preferred, respond

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Reason, RequestInfo
    from tcaptcha_middleware.responses import PlainResponse

PAGE, FRAMES = "document", ("iframe", "frame")

# Beside `Accept` and `Accept-Language`, these choose between the challenge and a refusal. Only
# answers to pages have it; none of them may be stored.
VARY = ("Vary", "HX-Boosted, Sec-Fetch-Dest, Turbo-Frame")

# What Turbo 7 and 8 and Turbolinks accept for a link. No browser accepts exactly this.
_TURBO = "text/html, application/xhtml+xml"


def is_navigation(request: RequestInfo, *, with_frames: bool = False) -> bool:
    """Return whether a browser opens a page, and not a script or a picture.

    https://www.w3.org/TR/fetch-metadata/#sec-fetch-dest-header

    Args:
        request: The request.
        with_frames: Whether a page that is opened in a frame counts.
    """
    # Older browsers, and pages without https, do not send this header.
    place = "".join(request.header("Sec-Fetch-Dest")) or PAGE
    is_page = place == PAGE or (with_frames and place in FRAMES)
    return request.kind == "http" and is_page and preferred(request) == HTML


def full_load(request: RequestInfo, reason: Reason) -> PlainResponse | None:
    """Return the refusal that makes a library load a page in full; None for other requests.

    Unpoly offers no answer that does so: it needs a listener in the page.

    Args:
        request: The refused request.
        reason: Why it was refused.
    """
    headers = [VARY]
    if request.header("HX-Boosted") == ["true"]:
        refusal = respond(reason, request)
        # https://htmx.org/headers/hx-redirect/
        headers.append(("HX-Redirect", _target(request)))
    elif request.header("Accept") != [_TURBO]:
        return None
    elif request.header("Turbo-Frame"):
        refusal = respond(reason, request, offers_reload=True)
    else:
        # Turbo renders HTML with any status, and loads a page in full if it gets another type.
        refusal = respond(reason, request, media_type=TEXT)
    return replace(refusal, headers=(*refusal.headers, *headers))


def path_with_mount(request: RequestInfo) -> str:
    """Return the path from the server's root; some servers leave the mount out of it."""
    mount = request.root_path.rstrip("/")
    is_below = f"{request.path}/".startswith(f"{mount}/")
    return request.path if is_below else mount + request.path


def _target(request: RequestInfo) -> str:
    """Return the target of a request, as a path that cannot lead to another host."""
    target = "/" + quote(path_with_mount(request).lstrip("/"), errors="replace")
    return f"{target}?{quote(request.query, safe='%=&+/:,;@')}" if request.query else target
