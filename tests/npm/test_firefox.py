"""Firefox shows the challenge in a form, for `captcha.fetch`, and instead of a page.

Playwright drives its own build of Firefox only, so puppeteer-core drives Debian's. Only Tencent
is a test double, the emulator.
"""

from __future__ import annotations

import json
import shutil

import pytest
from npm_project import run
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

NAMES = ("firefox-esr", "firefox")
HOME = """<!doctype html><html lang="en"><title>Home</title>
<form data-tcaptcha action="/login" method="post">
<input type="hidden" name="user" value="ada"><button>Log in</button></form>
<button id="comment">Comment</button> <a href="/report">Report</a> <p id="result"></p>
<script type="module">
import captcha from "/tcaptcha/tcaptcha.js";
comment.addEventListener("click", async () => {
  const answer = await captcha.fetch("/comments", { method: "POST", body: "hello" });
  result.textContent = `${answer.status} ${await answer.text()}`;
});
</script>"""


@pytest.fixture
def firefox():
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        pytest.skip(f"no Firefox: none of {', '.join(NAMES)} is on the PATH")
    return binary


def application(verifier):
    async def home(request):
        return HTMLResponse(HOME)

    async def login(request):
        form = await request.form()
        return HTMLResponse(f'<p id="result">Hello {form["user"]}</p>')

    async def comment(request):
        return HTMLResponse(f"{(await request.body()).decode()} published")

    async def report(request):
        return HTMLResponse('<p id="result">Figures</p>')

    routes = [
        Route("/", home),
        Route("/login", login, methods=["POST"]),
        Route("/comments", comment, methods=["POST"]),
        Route("/report", report),
    ]
    rules = ["POST /login", "POST /comments", "GET /report"]
    return TCaptchaMiddleware(
        Starlette(routes=routes), Guard(rules, verifier, page="/tcaptcha")
    )


def test_a_visitor_with_firefox_solves_each_kind_of_challenge(firefox, project):
    emulator = TencentEmulator()
    # Each challenge says for a moment that it is loading.
    emulator.challenge(*[{"latency": 0.5}] * 3)
    with emulator.serve() as endpoint:
        script = f"{endpoint}/TJCaptcha.js"
        verifier = TencentVerifier(**emulator.settings, endpoint=endpoint, script=script)
        with serving(application(verifier)) as origin:
            output = run(project, "node", "firefox.js", firefox, origin, timeout=120)
    seen = json.loads(output)
    assert seen == {"texts": ["Hello ada", "200 hello published", "Figures"], "errors": []}
    assert len(emulator.calls) == 3
