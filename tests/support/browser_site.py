"""The site for tests of tcaptcha.js: a real server behind the real middleware."""

from __future__ import annotations

import re
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

import tcaptcha_middleware
from tcaptcha_middleware import Guard, Rule, TCaptchaMiddleware
from tcaptcha_middleware.languages import MESSAGES, tencent_language
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.testing.emulator._http import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

BROWSER = files(tcaptcha_middleware) / "browser"
SETTINGS = {
    "appId": "190000000",
    "site": "cn",
    "script": "https://turing.captcha.qcloud.com/TJCaptcha.js",
    "headers": {"ticket": "X-Captcha-Ticket", "randstr": "X-Captcha-Randstr"},
    "fields": {"ticket": "ticket", "randstr": "randstr"},
}


class Site:
    """The site's settings, and the requests that it received.

    Attributes:
        page: The HTML of its only page, and additional headers.
        settings: The content of settings.json; `aidEncrypted` is numbered if it is "fresh".
        asked: The `for` parameters of requests for settings, in order.
        attempts: Every request that reached the gate: its path, and its ticket, if any.
        cookies: The cookies of each of these.
        handled: Every request that passed the gate: its method, path, headers and body.
    """

    def __init__(self) -> None:
        self.verifier = FakeVerifier()
        self.origin = ""
        self.reset()

    def reset(self) -> None:
        self.page: tuple[str, dict[str, str]] = ("", {})
        self.settings: dict[str, Any] = dict(SETTINGS)
        self.asked: list[str | None] = []
        self.attempts: list[tuple[str, str | None]] = []
        self.cookies: list[str] = []
        self.handled: list[dict[str, Any]] = []

    def app(self) -> Any:
        def once(request: Any) -> bool:
            return "human=yes" not in "".join(request.header("cookie"))

        # One ticket opens a session, whose requests need no other ticket.
        rules = ["POST /login/**", "GET /guarded", Rule("POST /session", when=once)]
        guard = Guard(rules, self.verifier)
        routes = [
            Route("/tcaptcha/tcaptcha.js", self._module),
            Route("/tcaptcha/settings.json", self._settings),
            Route("/", self._page, methods=["GET"]),
            Route("/moved", self._moved, methods=["POST"]),
            Route("/{rest:path}", self._handle, methods=["GET", "POST", "PUT"]),
        ]
        gate = TCaptchaMiddleware(Starlette(routes=routes), guard)
        names = ["X-Captcha-Ticket", "X-Captcha-Randstr"]
        allowed = {"allow_origins": ["*"], "allow_methods": ["POST"], "allow_headers": names}
        return CORSMiddleware(self._trying(gate), **allowed)

    def _trying(self, app: Any) -> Any:
        async def trying(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http" and not re.match(r"/($|tcaptcha/)", scope["path"]):
                headers = dict(scope["headers"])
                ticket = headers.get(b"x-captcha-ticket", b"").decode() or None
                self.attempts.append((scope["path"], ticket))
                self.cookies.append(headers.get(b"cookie", b"").decode())
            await app(scope, receive, send)

        return trying

    async def _page(self, request: Any) -> Response:
        return HTMLResponse(self.page[0], headers=self.page[1])

    async def _module(self, request: Any) -> Response:
        text = (BROWSER / "tcaptcha.js").read_text()
        return Response(text, media_type="text/javascript")

    async def _settings(self, request: Any) -> Response:
        self.asked.append(request.query_params.get("for"))
        settings = dict(self.settings)
        if tag := request.query_params.get("language"):
            settings["language"] = tencent_language(tag)
        settings.setdefault("messages", {"lang": "en", **MESSAGES["en"]})
        if settings.get("aidEncrypted") == "fresh":
            settings["aidEncrypted"] = f"fresh {len(self.asked)}"
        status = settings.pop("status", 200)
        return JSONResponse(settings, status, headers={"Cache-Control": "no-store"})

    async def _moved(self, request: Any) -> Response:
        return RedirectResponse("/guarded", 303)

    async def _handle(self, request: Any) -> Response:
        form = {}
        if "form" in request.headers.get("content-type", ""):
            async with request.form() as fields:
                form = {name: getattr(v, "filename", v) for name, v in fields.multi_items()}
            body = b""
        else:
            body = await request.body()
        self.handled.append(
            {
                "method": request.method,
                "path": request.url.path,
                "headers": dict(request.headers),
                "body": body.decode(),
                "form": form,
            }
        )
        answer = JSONResponse({"path": request.url.path, "body": body.decode()})
        if request.url.path == "/session":
            answer.set_cookie("human", "yes")
        return answer


@contextmanager
def site_served() -> Iterator[Site]:
    site = Site()
    with serving(site.app()) as origin:
        site.origin = origin
        yield site
