"""The demo's application: a few pages and handlers behind the gate.

It uses the package as any application would; the package uses nothing from here. The page can
make the demo's emulator fail; with a real account it cannot.
"""

from __future__ import annotations

import inspect
from html import escape
from importlib.resources import files
from string import Template
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import anyio
import httpx
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from tcaptcha_middleware.asgi import TCaptchaMiddleware
from tcaptcha_middleware.browser.page import csp_sources
from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.demo.journal import Journal, TraceMiddleware, timeline
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.health.monitor import State
from tcaptcha_middleware.rules import Rule

if TYPE_CHECKING:
    from starlette.requests import Request

    from tcaptcha_middleware.models import Allow
    from tcaptcha_middleware.testing.emulator import TencentEmulator
    from tcaptcha_middleware.verifiers.tencent import TencentVerifier

SCRIPT = "../emulator/TJCaptcha.js"
"""The emulator's script, relative to the settings: the demo serves it below its own origin."""

_FILES = {
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/timeline.js": ("timeline.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_FILE_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
_BACKENDS = {
    "emulator": "An emulator on this machine verifies tickets: no account, no internet.",
    "tencent": "Tencent verifies tickets, for your captcha.",
}
# Most are solved without being shown, so one button shows one failure.
_CHALLENGES: dict[str, dict[str, Any]] = {
    "replayed": {"skip": True},
    "expired": {"skip": True, "ticket": {"age": 301}},
    "forged": {"skip": True, "ticket": {"code": 15}},
    "foreign": {"skip": True, "ticket": {"app_id": 1}},
    "malicious": {"skip": True, "ticket": {"evil_level": 100}},
    "risky": {"skip": True, "ticket": {"code": 21}},
    "unanswered": {"skip": True},
    "down": {"skip": True},
    "throttled": {"skip": True},
    "closed": {"close": True},
    "broken": {"error": 1001},
}
_CALLS: dict[str, dict[str, Any]] = {
    "unanswered": {"status": 503},
    "throttled": {"error": "RequestLimitExceeded"},
}
_LOADS = {"unloadable": {"status": 503}}

_POLL = 0.05
"""Seconds between two looks at the gate's health."""
_PATIENCE = 10.0
"""Seconds to wait for it; the gate's probes need about two."""


def site(verifier: TencentVerifier, emulator: TencentEmulator | None = None) -> Starlette:
    """Create the site.

    Args:
        verifier: Verifies the tickets.
        emulator: What the verifier calls, so the page can make it fail; None if it calls
            Tencent.
    """
    journal = Journal(emulator)
    guard = _guard(journal, verifier)
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
        Route("/code", JSONResponse(_code(pages, failures))),
        *(
            Route(path, Response(_text(name), media_type=kind, headers=_FILE_HEADERS))
            for path, (name, kind) in _FILES.items()
        ),
        *([] if emulator is None else [_browser_side(emulator)]),
        *([] if failures is None else failures.routes),
    ]
    app = Starlette(routes=routes)
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    app.add_middleware(TraceMiddleware, journal=journal)
    return app


def _guard(journal: Journal, verifier: TencentVerifier) -> Guard:
    return Guard(
        ["POST /login", Rule("POST /comment", on_unavailable="allow"), "GET /report"],
        journal.wrap(verifier),
        replay_store=journal.replay_store,
        on_event=journal.on_event,
        page="/tcaptcha",
    )


def _code(pages: _Pages, failures: Failures | None) -> dict[str, str]:
    """Return the code that runs for each button of the page, from the source."""
    guard = inspect.getsource(_guard)
    handlers = {name: getattr(pages, name) for name in ("login", "comment", "report")}
    code = {
        name: f"{guard}\n{dedent(inspect.getsource(handler))}"
        for name, handler in handlers.items()
    }
    return code if failures is None else code | failures.code()


def _browser_side(emulator: TencentEmulator) -> Mount:
    """Return what pages need of the emulator, without its control API."""
    paths = ("/TJCaptcha.js", "/__emulator__/challenge")
    return Mount("/emulator", routes=[Route(path, emulator) for path in paths])


class _Pages:
    """The handlers behind the gate, and the page in front of it."""

    def __init__(self, journal: Journal, verifier: TencentVerifier, backend: str) -> None:
        self._journal = journal
        # Tencent's script needs inline styles; the emulator's does not.
        needed = {
            name: values
            for name, values in csp_sources(verifier).items()
            if backend == "tencent" or name != "style-src"
        }
        own = ("script-src", "style-src", "connect-src", "img-src", "form-action")
        nothing = dict.fromkeys(("default-src", "base-uri", "frame-ancestors"), ("'none'",))
        policy = nothing | needed | {name: ("'self'", *needed.get(name, ())) for name in own}
        self._headers = {
            "Content-Security-Policy": "; ".join(
                f"{name} {' '.join(dict.fromkeys(values))}" for name, values in policy.items()
            ),
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


def _text(name: str) -> str:
    return files("tcaptcha_middleware.demo").joinpath(name).read_text(encoding="utf-8")


class Failures:
    """Routes by which the page makes the demo's emulator fail.

    A failure of a challenge or of the script applies to the next one. A failure of a call is
    set just before the call; otherwise a request without a call would leave it to a later one.
    An outage ends with the first decision after the gate has established it.

    Args:
        emulator: The demo's emulator.
        guard: The guard whose verifier calls it.
    """

    def __init__(self, emulator: TencentEmulator, guard: Guard) -> None:
        self._emulator = emulator
        self._guard = guard
        self._calls: list[dict[str, Any]] = []
        self._is_outage = False
        self.routes: list[Route] = [
            Route("/failures/{name}", self._prepare, methods=["POST"]),
        ]

    def code(self) -> dict[str, str]:
        """Return what makes each failure, as a test of an application can write it."""
        tables = {"challenge": _CHALLENGES, "script": _CALLS, "load": _LOADS}
        code = {
            name: "\n".join(
                f"emulator.{method}({table[name]!r})"
                for method, table in tables.items()
                if name in table
            )
            for name in _CHALLENGES | _LOADS
        }
        code["down"] += "\nemulator.is_up = False"
        return code

    def apply(self) -> None:
        """Make the call fail that is about to be made."""
        self._emulator.script(*self._calls)
        self._calls.clear()

    def clear(self) -> None:
        """Drop the failure of a call that was not made, and end an established outage."""
        self._calls.clear()
        if self._is_outage:
            self._is_outage, self._emulator.is_up = False, True

    async def _prepare(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name == "over":
            await self._wait_for(State.UP)
            return Response(status_code=204)
        if name not in _CHALLENGES | _LOADS:
            return Response(status_code=404)
        self._calls = [_CALLS[name]] if name in _CALLS else []
        if name in _CHALLENGES:
            self._emulator.challenge(_CHALLENGES[name])
        else:
            self._emulator.load(_LOADS[name])
        if name == "down":
            # Only a failed verification makes the gate send probes, so a visitor is made up.
            self._emulator.is_up = False
            form = self._emulator.mint()
            transport = httpx.ASGITransport(request.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://demo") as client:
                await client.post("/login", data=form)
            await self._wait_for(State.DOWN)
            self._is_outage = True
        return Response(status_code=204)

    async def _wait_for(self, state: State) -> None:
        with anyio.move_on_after(_PATIENCE):
            # Another thread probes.
            while set(self._guard.health.values()) != {state}:  # noqa: ASYNC110
                await anyio.sleep(_POLL)
