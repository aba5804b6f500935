"""Denial responses: status, headers and body, in the media type that the client prefers.

Pure, and the same for both adapters. Nothing of the request is echoed.

https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

from tcaptcha_middleware.languages import (
    BACK,
    DETAILS,
    RELOAD,
    TITLES,
    preferred_language,
    weighted,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tcaptcha_middleware.languages import Language
    from tcaptcha_middleware.models import Reason, RequestInfo

    _Offer = Literal["back", "reload"] | None

CODE_HEADER = "Tcaptcha-Code"
"""The header with the code of a refusal, for scripts, also if a `responder` makes the body."""

RETRY_AFTER = 2
"""How long a client should wait after a 503 by default, in seconds."""

HTML = "text/html"
TEXT = "text/plain"
_PROBLEM = "application/problem+json"
_LONG = 1024  # how many characters of an `Accept` are read; browsers send less than 200
_STATUSES = range(200, 600)
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# RFC 9110, sections 15.3.5 and 15.4.5.
_BODILESS = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
# In the order that decides if a client prefers several equally. Each with the ranges that
# accept it, the most specific first (RFC 9110, section 12.5.1).
_OFFERS = {
    _PROBLEM: (_PROBLEM, "application/json", "application/*", "*/*"),
    HTML: (HTML, "text/*", "*/*"),
    TEXT: (TEXT, "text/*", "*/*"),
}


STYLE = """\
.tcaptcha {
  --paper: #fff; --card: #f6f7f9; --line: #d0d7de;
  --ink: #1b1f24; --soft: #57606a; --accent: #0b57d0; --on-accent: #fff;
  box-sizing: border-box; min-height: 100vh; min-height: 100dvh; margin: 0; padding: 1rem;
  display: grid; place-items: center;
  background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
}
@media (prefers-color-scheme: dark) {
  .tcaptcha {
    --paper: #111418; --card: #1b2027; --line: #333b45;
    --ink: #e8ebef; --soft: #a3adb8; --accent: #8ab4f8; --on-accent: #10161f;
  }
}
.tcaptcha main {
  box-sizing: border-box; width: 100%; max-width: 26rem; padding: 2rem 1.5rem;
  background: var(--card); border: 1px solid var(--line); border-radius: .75rem;
  text-align: center;
}
.tcaptcha h1 { margin: 0 0 .5rem; font-size: 1.375rem; line-height: 1.25 }
.tcaptcha p { margin: 0 0 1.25rem }
.tcaptcha button {
  min-height: 3rem; padding: .625rem 1.75rem; border: 0; border-radius: .5rem;
  background: var(--accent); color: var(--on-accent);
  font: inherit; font-weight: 600; cursor: pointer;
}
.tcaptcha button:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px }
.tcaptcha [hidden] { display: none }
.tcaptcha a { color: var(--accent) }
.tcaptcha small { display: block; margin-top: .75rem; color: var(--soft) }
"""
"""The style of pages that visitors see: refusals and the challenge.

It applies only below this class, because a script may put a refusal into its own page.
"""

# The scripts of refusals, one for each offer. They and the style are allowed by their hashes.
_GO_BACK = (
    "const button = document.querySelector('button'); button.hidden = false; "
    "button.onclick = () => history.back()"
)
# Turbo renders the refusal in the page that it is in; unless that page's policy blocks scripts,
# the visitor need not press the link.
_RELOAD = "location.reload()"
_STYLE_HASH, _GO_BACK_HASH, _RELOAD_HASH = (
    f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    for text in (STYLE, _GO_BACK, _RELOAD)
)

# RFC 9110, sections 5.6.2 and 5.5; what a browser may be sent, and no second line.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t -~\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class PlainResponse:
    """A small response, for a `responder` without a framework.

    Attributes:
        status: The HTTP status, 200 to 599.
        headers: Pairs of name and value; the adapters add `Content-Length`.
        body: The body's bytes.

    Raises:
        ValueError: If the status or a header is not valid.
        TypeError: If the body is not bytes.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        """Validate that every server can send it."""
        if self.status not in _STATUSES:
            raise ValueError(f"{self.status!r} is not the status of a response: use 200 to 599")
        for name, value in self.headers:
            if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)):
                raise ValueError(f"{name!r} is not a valid header: use latin-1, one line")
        if not isinstance(self.body, bytes):
            raise TypeError("a body must be bytes: encode it")

    @property
    def line(self) -> str:
        """The status with its phrase, as WSGI wants it."""
        return f"{self.status:d} {_PHRASES.get(self.status, 'Unknown')}"


def framed(answer: PlainResponse, method: str) -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body that an answer is sent with.

    Args:
        answer: The answer.
        method: The request's method; a `HEAD` gets the length without the body.
    """
    if answer.status in _BODILESS:
        return [*answer.headers], b""
    headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
    return headers, b"" if method == "HEAD" else answer.body


def respond(
    reason: Reason,
    request: RequestInfo,
    retry_after: int = RETRY_AFTER,
    *,
    media_type: str | None = None,
    offers_reload: bool = False,
) -> PlainResponse:
    """Return the default denial response.

    Args:
        reason: Why the request was refused.
        request: Its `Accept` and `Accept-Language` choose the media type and the language.
        retry_after: How long a client should wait after a 503, in seconds.
        media_type: The media type, instead of the preferred one.
        offers_reload: Whether an HTML page loads itself in full, or has a link that does if its
            script is blocked; for Turbo.
    """
    is_form = request.method.upper() not in ("GET", "HEAD")
    language = preferred_language(request)
    offer: _Offer = "reload" if offers_reload else "back" if is_form else None
    return _render(reason, media_type or preferred(request), language, retry_after, offer)


def problem(status: int, detail: str, *headers: tuple[str, str]) -> PlainResponse:
    """Return a problem document for anything but a refusal."""
    every = [("Content-Type", _PROBLEM), ("Cache-Control", "no-store"), *headers]
    return PlainResponse(status, every, json.dumps(_document(status, detail)).encode())


def preferred(request: RequestInfo) -> str:
    """Return the offered media type that the client prefers."""
    accept = ",".join(request.header("accept"))
    # Without the item that the limit cuts.
    return _preferred(accept if len(accept) <= _LONG else accept[:_LONG].rpartition(",")[0])


@lru_cache(maxsize=512)
def _render(
    reason: Reason, media_type: str, language: Language, retry_after: int, offer: _Offer
) -> PlainResponse:
    title, detail = TITLES[language][reason.status], DETAILS[language][reason]
    # Without frame-ancestors, so a frame shows the reason instead of an error.
    policy = "default-src 'none'"
    if media_type == _PROBLEM:
        body = json.dumps(_document(reason.status, detail) | {"code": reason.value})
    elif media_type == HTML:
        from html import escape  # late: it is slow to load

        head = offered = ""
        policy += f"; style-src {_STYLE_HASH}"
        if offer == "reload":
            head = '<meta name="turbo-visit-control" content="reload">'
            link = f'<a href="" data-turbo="false">{escape(RELOAD[language])}</a>'
            offered = f"<p>{link}</p><script>{_RELOAD}</script>"
            policy += f"; script-src {_RELOAD_HASH}"
        elif offer == "back":
            sentence, label = map(escape, BACK[language])
            # Without scripts the button could do nothing.
            button = f"<button hidden>{label}</button>"
            offered = f"<p>{sentence}</p>{button}<script>{_GO_BACK}</script>"
            policy += f"; script-src {_GO_BACK_HASH}"
        body = (
            f'<!doctype html><html lang="{language}"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            '<meta name="color-scheme" content="light dark">'
            f"{head}<title>{escape(title)}</title><style>{STYLE}</style>"
            f'<body class="tcaptcha"><main><h1>{escape(title)}</h1><p>{escape(detail)}</p>'
            f"{offered}<small>{escape(reason.value)}</small></main>"
        )
    else:
        body = f"{title}: {detail} ({reason.value})\n"
    headers = [
        ("Content-Type", f"{media_type}{'' if media_type == _PROBLEM else '; charset=utf-8'}"),
        ("Content-Language", language),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept, Accept-Language"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Security-Policy", policy),
    ]
    if reason.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", str(retry_after)))
    return PlainResponse(reason.status, tuple(headers), body.encode())


def _document(status: int, detail: str) -> dict[str, object]:
    # "about:blank" asks for the status's own phrase as title (RFC 9457, section 4.2.1).
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": detail}


@lru_cache(maxsize=128)
def _preferred(accept: str) -> str:
    """Return the offer that `accept` prefers; problem+json if it accepts none."""
    qualities = dict(weighted(accept))
    scores = {
        offer: next((qualities[name] for name in ranges if name in qualities), 0.0)
        for offer, ranges in _OFFERS.items()
    }
    return max(scores, key=lambda offer: scores[offer])
