"""Forms in Chromium, Tencent's script blocked: they are sent if they need no captcha."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import pytest
from browser import TENCENT, browser, context, page
from outages import bring
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from tcaptcha_middleware import Guard, Switch, TCaptchaMiddleware
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

FORM = """<!doctype html><html lang="en"><title>Form</title>
<script type="module" src="/tcaptcha/tcaptcha.js"></script>
<form data-tcaptcha action="/login" method="post">
<label>Name <input name="name"></label><button>Send</button></form>"""
BUTTON = """<!doctype html><html lang="en"><title>Button</title>
<script type="module" src="/tcaptcha/tcaptcha.js"></script>
<form action="/login" method="post">
<label>Name <input name="name"></label><tcaptcha-button>Send</tcaptcha-button></form>"""


def off():
    switch = Switch()
    switch.off("a test")
    return switch


def fails(request):
    raise LookupError(request)


async def hangs(request):
    await asyncio.Event().wait()


# Settings of the guard, the state of the service, and whether the form is sent.
MODES = {
    "enforced": ({}, "up", False),
    "the kill switch is off": ({"switch": off()}, "up", True),
    "observing": ({"mode": "observe"}, "up", True),
    "not in the share": ({"percent": 0}, "up", True),
    "when is False": ({"when": lambda request: False}, "up", True),
    "when is True": ({"when": lambda request: True}, "up", False),
    "when fails": ({"when": fails}, "up", False),
    "when times out": ({"when": hangs, "check_timeout": 0.05}, "up", False),
    "an outage that lets requests pass": ({"on_unavailable": "allow"}, "down", True),
    "a suspicion": ({"on_unavailable": "allow"}, "suspect", False),
    "an outage that does not": ({"on_unavailable": "deny"}, "down", False),
}


@pytest.mark.parametrize("form", [FORM, BUTTON], ids=["a marked form", "a button"])
@pytest.mark.parametrize(("settings", "state", "is_sent"), MODES.values(), ids=MODES)
def test_a_form_goes_without_a_captcha_only_if_none_is_needed(
    page, context, *, form, settings, state, is_sent
):
    bodies = []

    async def home(request):
        return HTMLResponse(form)

    async def login(request):
        bodies.append(dict(await request.form()))
        return PlainTextResponse("inside")

    guard = Guard(["POST /login"], FakeVerifier(), page="/tcaptcha", **settings)
    bring(guard, state)
    app = Starlette(routes=[Route("/", home), Route("/login", login, methods=["POST"])])
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    context.route(TENCENT, lambda route: route.abort())
    with serving(app) as origin:
        page.goto(origin)
        page.wait_for_function("() => Boolean(customElements.get('tcaptcha-button'))")
        page.get_by_label("Name").fill("Ada")
        page.get_by_role("button", name="Send").click()
        if is_sent:
            page.get_by_text("inside").wait_for()
            assert [body["name"] for body in bodies] == ["Ada"]
            assert not any(body.get("ticket") for body in bodies)
        else:
            status = page.get_by_role("status")
            status.get_by_text("If you use a content blocker, turn it off").wait_for()
            assert bodies == []
            assert page.get_by_label("Name").input_value() == "Ada"


@contextmanager
def opened_in_an_outage(page):
    """Open a form during an outage, and press its button; yield what the login receives."""
    bodies = []

    async def home(request):
        return HTMLResponse(FORM)

    async def login(request):
        bodies.append(dict(await request.form()))
        return PlainTextResponse("inside")

    guard = Guard(["POST /login"], FakeVerifier(), page="/tcaptcha", on_unavailable="allow")
    bring(guard, "down")
    app = Starlette(routes=[Route("/", home), Route("/login", login, methods=["POST"])])
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    with serving(app) as origin:
        page.goto(origin)
        page.wait_for_function("() => Boolean(customElements.get('tcaptcha-button'))")
        page.get_by_role("button", name="Send").click()
        yield bodies


def test_during_an_outage_a_challenge_that_can_be_shown_is_shown(page, context):
    with opened_in_an_outage(page) as bodies:
        page.get_by_role("dialog").get_by_text("solve").click()
        page.get_by_text("inside").wait_for()
        assert bodies[0]["ticket"].startswith("tr03")


def test_during_an_outage_a_visitor_who_closes_the_challenge_sends_nothing(page, context):
    with opened_in_an_outage(page) as bodies:
        page.get_by_role("dialog").get_by_text("close").click()
        page.locator("[data-tcaptcha-state=closed]").wait_for()
        assert bodies == []
