"""The demo's application: a few pages and handlers, and the gate in front.

It is written as a user of the package would write it; nothing here is used by the package.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from tcaptcha_middleware.asgi import TCaptchaMiddleware
from tcaptcha_middleware.browser.csp import csp_sources
from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.demo.failures import Steering
from tcaptcha_middleware.demo.journal import Journal, Journaling
from tcaptcha_middleware.demo.timeline import told
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from tcaptcha_middleware.models import Allow
    from tcaptcha_middleware.testing.emulator import TencentEmulator
    from tcaptcha_middleware.verifiers.tencent import TencentVerifier

_FILES = {
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_JUDGES = {
    "emulator": "An emulator on this machine checks tickets: no account, no internet.",
    "tencent": "Tencent checks tickets, for your captcha.",
}


def site(verifier: TencentVerifier, emulator: TencentEmulator | None = None) -> Starlette:
    """Make the site.

    Args:
        verifier: Checks the tickets.
        emulator: What it asks, so that the page can steer it; None where it asks Tencent.
    """
    journal = Journal(emulator)
    steering = None if emulator is None else Steering(emulator)
    if steering is not None:
        journal.before_call.append(steering.hand_on)
        journal.after_decision.append(steering.forget)
    guard = Guard(
        ["POST /login", Rule("POST /comment", on_unavailable="allow"), "GET /report"],
        journal.asks(verifier),
        replay_store=journal.replay_store,
        on_event=journal.decided,
        page="/tcaptcha",
    )
    pages = _Pages(journal, verifier, "tencent" if emulator is None else "emulator")
    routes = [
        Route("/", pages.index),
        Route("/login", pages.login, methods=["POST"]),
        Route("/comment", pages.comment, methods=["POST"]),
        Route("/report", pages.report),
        Route("/trace/{number:int}", pages.trace),
        *(Route(path, _file(*found)) for path, found in _FILES.items()),
        *([] if steering is None else steering.routes),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    app.add_middleware(Journaling, journal=journal)
    return app


class _Pages:
    """What is behind the gate, and the page in front of it."""

    def __init__(self, journal: Journal, verifier: TencentVerifier, judge: str) -> None:
        self._journal = journal
        self._headers = {
            "Content-Security-Policy": _policy(csp_sources(verifier), judge),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        told_of = {"judge": judge, "checked": _JUDGES[judge], "app_id": verifier.app_id}
        self._index = Template(_text("page.html")).substitute(told_of)
        self._report = Template(_text("report.html"))

    async def index(self, _: Request) -> Response:
        return HTMLResponse(self._index, headers=self._headers)

    async def login(self, request: Request) -> Response:
        """Greet the visitor; nobody comes here without a solved captcha."""
        async with request.form() as form:
            return self._handled(request, user=str(form.get("user", "")))

    async def comment(self, request: Request) -> Response:
        """Take a comment; while Tencent is down, of anybody."""
        async with request.form() as form:
            return self._handled(request, comment=str(form.get("comment", "")))

    async def report(self, request: Request) -> Response:
        """Show a page that a captcha has to be solved for."""
        told_of = self._note(request) | {"trace": self._journal.current.number}
        shown = {name: escape(str(value)) for name, value in told_of.items()}
        return HTMLResponse(self._report.substitute(shown), headers=self._headers)

    async def trace(self, request: Request) -> Response:
        """Tell what became of a request."""
        try:
            journey, event = self._journal[request.path_params["number"]]
        except KeyError:
            return Response(status_code=404)
        return JSONResponse(told(journey, event), headers=self._headers)

    def _handled(self, request: Request, **more: str) -> Response:
        return JSONResponse(more | self._note(request))

    def _note(self, request: Request) -> dict[str, Any]:
        found = admitted(request)
        self._journal.current.handled = found
        return {"rule": found.rule, "captchaCode": found.code, "unchecked": found.unchecked}


def admitted(request: Any) -> Allow:
    """Return what the gate decided; no handler greets anybody who was not checked.

    Raises:
        RuntimeError: The gate is not in front of the handler.
    """
    found = get_decision(request)
    if found is None:
        raise RuntimeError("the gate is not in front of this handler")
    return found


def _policy(sources: Mapping[str, tuple[str, ...]], judge: str) -> str:
    # The emulator's script needs no inline styles; Tencent's does.
    needed = {
        name: found
        for name, found in sources.items()
        if judge == "tencent" or name != "style-src"
    }
    own = ("script-src", "style-src", "connect-src", "img-src", "form-action")
    nothing = dict.fromkeys(("default-src", "base-uri", "frame-ancestors"), ("'none'",))
    allowed = {name: ("'self'", *needed.get(name, ())) for name in own}
    return "; ".join(
        f"{name} {' '.join(found)}" for name, found in (nothing | needed | allowed).items()
    )


def _text(name: str) -> str:
    return files("tcaptcha_middleware.demo").joinpath(name).read_text(encoding="utf-8")


def _file(name: str, media_type: str) -> Response:
    headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return Response(_text(name), media_type=media_type, headers=headers)
