"""Plain WSGI, without a framework: old clients may send the pair in the query.

Run it in this folder:

    waitress-serve wsgi_app:app
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from tcaptcha_middleware import (
    Guard,
    TCaptchaWSGIMiddleware,
    TencentVerifier,
    get_decision,
    sources,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse


def site(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Greet the visitor at /login, and return Tencent's code for the ticket."""
    answer = "POST a user to /login, with a captcha."
    if (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("POST", "/login"):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        form = parse_qs(environ["wsgi.input"].read(length).decode())
        decision = get_decision(environ)
        code = decision.code if decision else None
        answer = json.dumps({"hello": form.get("user", ["stranger"])[0], "captchaCode": code})
    start_response("200 OK", [("Content-Type", "application/json")])
    return [answer.encode()]


guard = Guard(
    ["POST /login"],
    TencentVerifier.from_env(),
    sources=[sources.Header(), sources.Query(), sources.Form()],
)
app = TCaptchaWSGIMiddleware(site, guard)
