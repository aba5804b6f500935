"""The demo's application: a page with a login form, its handler, and the gate in front.

It is written as a user of the package would write it; nothing here is used by the package.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tcaptcha_middleware.access import decision
from tcaptcha_middleware.asgi import TCaptchaMiddleware
from tcaptcha_middleware.guard import Guard

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from tcaptcha_middleware.testing.emulator import TencentEmulator
    from tcaptcha_middleware.verifiers.http import TencentVerifier

_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}


def site(verifier: TencentVerifier, emulator: TencentEmulator | None = None) -> Starlette:
    """Make the site.

    Args:
        verifier: Checks the tickets.
        emulator: Hands the page its tickets; None where Tencent's own script does.
    """

    async def settings(_: Request) -> Response:
        script = verifier.script if emulator is None else None
        return JSONResponse(
            {"appId": verifier.app_id, "site": verifier.site, "script": script},
            headers={"Cache-Control": "no-store"},
        )

    async def solve(_: Request) -> Response:
        if emulator is None:
            return Response(status_code=404)
        return JSONResponse(emulator.mint())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with verifier:
            yield

    routes = [
        *(Route(path, _file(*found)) for path, found in _FILES.items()),
        Route("/settings", settings),
        Route("/solve", solve, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.add_middleware(TCaptchaMiddleware, guard=Guard(["POST /login"], verifier))
    return app


async def login(request: Request) -> Response:
    """Greet the visitor; nobody comes here without a solved captcha."""
    async with request.form() as form:
        user = str(form.get("user", ""))
    found = decision(request)
    if found is None:
        raise RuntimeError("the gate is not in front of the login")
    return JSONResponse({"user": user, "rule": found.rule, "captchaCode": found.code})


def _file(name: str, media_type: str) -> Response:
    content = files("tcaptcha_middleware.demo").joinpath(name).read_bytes()
    return Response(content, media_type=media_type)
