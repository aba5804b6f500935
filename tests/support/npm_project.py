"""The blocks of code in pages about the browser, and an application that serves a build."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tcaptcha_middleware import Guard, TCaptchaMiddleware
from tcaptcha_middleware.testing import FakeVerifier

if TYPE_CHECKING:
    from starlette.responses import Response


ROOT = Path(__file__).parents[2]
BROWSER, LIBRARIES = (
    (ROOT / "docs" / name).read_text() for name in ("browser.md", "front-end-libraries.md")
)


def run(folder: Path, *command: Any, timeout: float | None = None) -> str:
    """Run a command in `folder`; its output is part of the failure."""
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=timeout
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def blocks(page: str, title: str, *languages: str) -> list[tuple[str, str]]:
    """Return the language and text of each block of code in a section."""
    (section,) = re.findall(rf"^##+ {title}\n(.*?)(?=^##|\Z)", page, re.DOTALL | re.MULTILINE)
    found = re.findall(r"^```(\w+)\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return [block for block in found if block[0] in languages]


class Site:
    """A protected application in front of a folder with a build.

    Attributes:
        origin: Its scheme, host and port.
        handled: The method, path and content of each request that passed the gate.
    """

    def __init__(self, folder: Path) -> None:
        self.origin = ""
        self.handled: list[tuple[str, str, str]] = []
        routes = [
            Route("/login", self._login, methods=["POST"]),
            Route("/upload", self._upload, methods=["POST"]),
            Route("/report", self._report),
            Route("/welcome", self._welcome),
            Mount("/", StaticFiles(directory=folder, html=True)),
        ]
        rules = ["POST /login", "POST /upload", "GET /report"]
        guard = Guard(rules, FakeVerifier(), page="/tcaptcha")
        self.app = TCaptchaMiddleware(Starlette(routes=routes), guard)

    async def _login(self, request: Any) -> Response:
        async with request.form() as form:
            self.handled.append(("POST", "/login", form["user"]))
            return RedirectResponse(f"/welcome?user={form['user']}", 303)

    async def _upload(self, request: Any) -> Response:
        async with request.form() as form:
            self.handled.append(("POST", "/upload", (await form["file"].read()).decode()))
        return HTMLResponse("Uploaded")

    async def _report(self, request: Any) -> Response:
        self.handled.append(("GET", "/report", ""))
        return _page("Figures")

    async def _welcome(self, request: Any) -> Response:
        return _page(f"Hello {request.query_params['user']}")


def _page(text: str) -> Response:
    return HTMLResponse(f'<!doctype html><title>{text}</title><p id="result">{text}</p>')
