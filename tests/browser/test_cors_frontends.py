"""A frontend of another origin, in Chromium, with the CORS extension of each framework."""

from __future__ import annotations

import json

import pytest
from browser import browser, context, page
from served import serving as serving_app
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

SERVERS = {"flask": "waitress", "django": "waitress", "quart": "hypercorn"}
FRONTEND = """<!doctype html><title>Frontend</title><script type="module">
import captcha from "API/tcaptcha/tcaptcha.js";
window.tencent = { always: "solve" };
window.send = async (path) => {
  const answer = await captcha.fetch(`API${path}`, { method: "POST" });
  return [answer.status, answer.headers.get("Tcaptcha-Code"), await answer.text()];
};
window.plain = async (path) => {
  const answer = await fetch(`API${path}`, { method: "POST", credentials: "include" });
  return [answer.status, answer.headers.get("Tcaptcha-Code"), await answer.text()];
};
</script>"""


@pytest.mark.parametrize("framework", SERVERS)
def test_a_frontend_of_another_origin_logs_in(page, framework, tmp_path):
    api = []

    async def home(request):
        return HTMLResponse(FRONTEND.replace("API", api[0]))

    with (
        serving(Starlette(routes=[Route("/", home)])) as frontend,
        serving_app(
            SERVERS[framework],
            "cors_apps",
            tmp_path / "log",
            FRONTEND=frontend,
            FRAMEWORK=framework,
        ) as server,
    ):
        api.append(f"http://127.0.0.1:{server.port}")
        page.goto(frontend)
        page.wait_for_function("() => Boolean(window.send)")
        assert page.evaluate("plain('/login')")[:2] == [403, "ticket_missing"]
        envelope = [403, "ticket_missing", "our own envelope"]
        assert page.evaluate("plain('/enveloped')") == envelope
        status, _, text = page.evaluate("send('/login')")
        assert (status, json.loads(text)) == (200, {"inside": True})
