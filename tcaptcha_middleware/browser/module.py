"""`tcaptcha.js`: its file, and the response that serves it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tcaptcha_middleware.responses import PlainResponse

if TYPE_CHECKING:
    from tcaptcha_middleware.models import RequestInfo

MODULE = "tcaptcha.js"

# The URL is the same for all versions, so a new one has to arrive soon: after an hour, and a
# day in which the old one is used while the new one is fetched (RFC 5861, section 3).
_CACHED = "public, max-age=3600, stale-while-revalidate=86400"


def module_path() -> Path:
    """Return the path of `tcaptcha.js`, for a server of static files."""
    return Path(__file__).with_name(MODULE)


class Module:
    """Serves the module. The file is read once, before there is an event loop."""

    def __init__(self) -> None:
        self._content = module_path().read_bytes()
        self._tag = f'"{hashlib.sha256(self._content).hexdigest()[:32]}"'
        self._headers = [
            ("ETag", self._tag),
            ("Cache-Control", _CACHED),
            # The module is the same for all, and contains no secret.
            ("Access-Control-Allow-Origin", "*"),
            ("X-Content-Type-Options", "nosniff"),
        ]

    def __call__(self, request: RequestInfo) -> PlainResponse:
        """Return the module, or that the client has it already."""
        # Compared weakly, because a proxy that compresses makes a tag weak (RFC 9110, 13.1.2).
        known = re.findall(r'"[^"]*"|\*', ",".join(request.header("If-None-Match")))
        if self._tag in known or "*" in known:
            return PlainResponse(304, self._headers)
        kind = ("Content-Type", "text/javascript; charset=utf-8")
        return PlainResponse(200, [kind, *self._headers], self._content)
