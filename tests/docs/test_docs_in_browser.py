"""Examples of the documentation that a visitor meets, in Chromium."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from browser import browser, context, page
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from tcaptcha_middleware import TCaptchaMiddleware
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import serving
from tcaptcha_middleware.testing.environment import variables

pytestmark = pytest.mark.outside

DOCS = Path(__file__).parents[2] / "docs"
HOME = """<!doctype html><title>Log in</title><script type="module">
import captcha from "/tcaptcha/tcaptcha.js";
window.login = async (fetch) => {
  const answer = await fetch("/login", { method: "POST" });
  return [answer.status, answer.headers.get("Tcaptcha-Code"), await answer.text()];
};
window.captcha = captcha;
</script>"""


async def home(request):
    return HTMLResponse(HOME)


async def login(request):
    return PlainTextResponse("inside")


def test_captcha_fetch_shows_the_challenge_with_the_responder_of_the_page(page, monkeypatch):
    text = (DOCS / "getting-started.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (example,) = [block for block in blocks if "def responder" in block]
    emulator, names = TencentEmulator(), {"__name__": "main"}
    with emulator.serve() as endpoint:
        for name, value in variables(emulator, endpoint).items():
            monkeypatch.setenv(name, value)
        exec(compile(example, "getting-started.md", "exec"), names)
        app = Starlette(routes=[Route("/", home), Route("/login", login, methods=["POST"])])
        with serving(TCaptchaMiddleware(app, names["guard"])) as origin:
            page.goto(origin)
            page.wait_for_function("window.captcha")
            refusal = [403, "ticket_missing", "Prove that you are human."]
            assert page.evaluate("login(fetch)") == refusal
            page.evaluate("void (window.answer = login(captcha.fetch))")
            page.get_by_role("dialog").get_by_role("button", name="Solve").click()
            assert page.evaluate("answer") == [200, None, "inside"]
    assert len(emulator.calls) == 1
