"""CORS headers of the gate's own answers, for frontends of another origin.

The application's own CORS middleware cannot add them if it runs behind the gate.
https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.sources import Header
from tcaptcha_middleware.responses import CODE_HEADER
from tcaptcha_middleware.validation import validate_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.models import RequestInfo

    Headers = list[tuple[str, str]]

# As browsers serialize it: in lower case, without the scheme's own port and a slash.
# Compiled when it is used: few guards name an origin.
_ORIGIN = r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(0|[1-9][0-9]{0,4}))?"
_OWN_PORTS = {"http": "80", "https": "443"}
_LAST_PORT = 65535


class Cors:
    """Makes the headers.

    Args:
        origins: The origins whose scripts may read the gate's answers, such as
            `"https://www.example.com"`; `"*"` for every origin, without credentials.

    Raises:
        ConfigurationError: If one is not an origin.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        validate_list("cors", origins, '["https://www.example.com"]')
        for origin in origins:
            if origin != "*" and not _is_sent(str(origin)):
                raise ConfigurationError(
                    f"cors has {origin!r}: write an origin as browsers send it, such as "
                    '"https://www.example.com", without a path or a slash at its end, '
                    "and without the port that is the scheme's own"
                )
        self._origins = frozenset(origins)

    def headers(self, request: RequestInfo) -> Headers:
        """Return what lets a page of an allowed origin read an answer to its request."""
        if not self._origins:
            return []
        [origin, *_] = *request.header("Origin"), ""
        allow = "Access-Control-Allow-Origin"
        expose = ("Access-Control-Expose-Headers", CODE_HEADER)
        if origin in self._origins:
            credentials = ("Access-Control-Allow-Credentials", "true")
            return [(allow, origin), credentials, expose, ("Vary", "Origin")]
        if "*" in self._origins:
            return [(allow, "*"), expose]
        return [("Vary", "Origin")]

    def preflight_headers(self, sources: Iterable[Source]) -> Headers:
        """Return what the application's answers to preflights lack: the ticket's headers.

        Args:
            sources: The sources of all rules.
        """
        headers = [source for source in sources if isinstance(source, Header)]
        names = [name for source in headers for name in (source.ticket, source.randstr)]
        if not self._origins or not names:
            return []
        # Browsers join the values of several headers.
        return [("Access-Control-Allow-Headers", ", ".join(dict.fromkeys(names)))]


def _is_sent(origin: str) -> bool:
    match = re.fullmatch(_ORIGIN, origin)
    if match is None:
        return False
    scheme, port = match.groups()
    return port is None or (port != _OWN_PORTS.get(scheme) and int(port) <= _LAST_PORT)
