"""The demo's application: a few pages and handlers behind the gate.

It uses the package as any application would; the package uses nothing from here.
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
from tcaptcha_middleware.browser.page import csp_sources
from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.demo.failures import Failures
from tcaptcha_middleware.demo.journal import Journal, TraceMiddleware
from tcaptcha_middleware.demo.timeline import timeline
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
_FILE_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_BACKENDS = {
    "emulator": "An emulator on this machine verifies tickets: no account, no internet.",
    "tencent": "Tencent verifies tickets, for your captcha.",
}


def site(verifier: TencentVerifier, emulator: TencentEmulator | None = None) -> Starlette:
    """Create the site.

    Args:
        verifier: Verifies the tickets.
        emulator: What the verifier calls, so the page can make it fail; None if it calls
            Tencent.
    """
    journal = Journal(emulator)
    guard = Guard(
        ["POST /login", Rule("POST /comment", on_unavailable="allow"), "GET /report"],
        journal.wrap(verifier),
        replay_store=journal.replay_store,
        on_event=journal.on_event,
        page="/tcaptcha",
    )
    failures = None if emulator is None else Failures(emulator, guard)
    if failures is not None:
        journal.before_call.append(failures.apply)
        journal.after_decision.append(failures.clear)
    pages = _Pages(journal, verifier, "tencent" if emulator is None else "emulator")
    routes = [
        Route("/", pages.index),
        Route("/login", pages.login, methods=["POST"]),
        Route("/comment", pages.comment, methods=["POST"]),
        Route("/report", pages.report),
        Route("/trace/{number:int}", pages.trace),
        *(
            Route(path, Response(_text(name), media_type=kind, headers=_FILE_HEADERS))
            for path, (name, kind) in _FILES.items()
        ),
        *([] if failures is None else failures.routes),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    app.add_middleware(TraceMiddleware, journal=journal)
    return app


class _Pages:
    """The handlers behind the gate, and the page in front of it."""

    def __init__(self, journal: Journal, verifier: TencentVerifier, backend: str) -> None:
        self._journal = journal
        self._headers = {
            "Content-Security-Policy": _policy(csp_sources(verifier), backend),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }
        self._index = Template(_text("page.html")).substitute(
            backend=backend, verified_by=_BACKENDS[backend], app_id=verifier.captcha.app_id
        )
        self._report = Template(_text("report.html"))

    async def index(self, _: Request) -> Response:
        return HTMLResponse(self._index, headers=self._headers)

    async def login(self, request: Request) -> Response:
        """Greet the user, who has solved a captcha."""
        async with request.form() as form:
            user = str(form.get("user", ""))
        return JSONResponse({"user": user} | self._decision(request))

    async def comment(self, request: Request) -> Response:
        """Accept a comment; without a verified captcha while Tencent is down."""
        async with request.form() as form:
            comment = str(form.get("comment", ""))
        return JSONResponse({"comment": comment} | self._decision(request))

    async def report(self, request: Request) -> Response:
        """Show a page that needs a solved captcha."""
        values = self._decision(request) | {"trace": self._journal.current.number}
        escaped = {name: escape(str(value)) for name, value in values.items()}
        return HTMLResponse(self._report.substitute(escaped), headers=self._headers)

    async def trace(self, request: Request) -> Response:
        """Return the steps of a request as JSON."""
        try:
            entry = self._journal[request.path_params["number"]]
        except KeyError:
            return Response(status_code=404)
        return JSONResponse(timeline(*entry), headers=self._headers)

    def _decision(self, request: Request) -> dict[str, Any]:
        decision = require_decision(request)
        self._journal.current.handled = decision
        return {
            "rule": decision.rule,
            "captchaCode": decision.code,
            "unchecked": decision.unchecked,
        }


def require_decision(request: Any) -> Allow:
    """Return the gate's decision.

    Raises:
        RuntimeError: If the gate is not in front of the handler.
    """
    decision = get_decision(request)
    if decision is None:
        raise RuntimeError("the gate is not in front of this handler")
    return decision


def _policy(sources: Mapping[str, tuple[str, ...]], backend: str) -> str:
    # Tencent's script needs inline styles; the emulator's does not.
    needed = {
        name: values
        for name, values in sources.items()
        if backend == "tencent" or name != "style-src"
    }
    own = ("script-src", "style-src", "connect-src", "img-src", "form-action")
    nothing = dict.fromkeys(("default-src", "base-uri", "frame-ancestors"), ("'none'",))
    allowed = {name: ("'self'", *needed.get(name, ())) for name in own}
    return "; ".join(
        f"{name} {' '.join(values)}" for name, values in (nothing | needed | allowed).items()
    )


def _text(name: str) -> str:
    return files("tcaptcha_middleware.demo").joinpath(name).read_text(encoding="utf-8")
