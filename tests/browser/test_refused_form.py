"""A refused form in Chromium: the page says why, and the way back keeps what was typed."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tcaptcha_middleware import Guard, TCaptchaMiddleware
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

FORM = """<!doctype html><title>Form</title><form action="/login" method="post">
<label>Name <input name="name"></label><button>Send</button></form>"""
LANGUAGES = {"en": "Go back", "zh-CN": "返回", "zh-TW": "返回"}


async def home(request):
    return HTMLResponse(FORM)


@pytest.mark.parametrize(("locale", "label"), LANGUAGES.items())
def test_the_way_back_from_a_refused_form_keeps_what_was_typed(browser, locale, label):
    app = Starlette(routes=[Route("/", home)])
    app.add_middleware(TCaptchaMiddleware, guard=Guard(["POST /login"], FakeVerifier()))
    with serving(app) as origin:
        context = browser.new_context(locale=locale)
        page = context.new_page()
        blocked = []
        page.on("console", lambda message: blocked.append(message.text))
        page.goto(origin)
        page.get_by_label("Name").fill("Ada")
        page.get_by_role("button", name="Send").click()
        page.get_by_text("ticket_missing").wait_for()
        assert page.locator("html").get_attribute("lang") == locale.lower()
        assert page.get_by_role("main").count() == page.get_by_role("heading").count() == 1
        assert page.locator("main").evaluate("it => getComputedStyle(it).maxWidth") == "416px"
        page.get_by_role("button", name=label).click()
        page.get_by_label("Name").wait_for()
        assert page.get_by_label("Name").input_value() == "Ada"
        assert [text for text in blocked if "Content Security Policy" in text] == []
        context.close()


def test_without_scripts_the_refused_form_says_what_it_needs(browser):
    app = Starlette(routes=[Route("/", home)])
    app.add_middleware(TCaptchaMiddleware, guard=Guard(["POST /login"], FakeVerifier()))
    with serving(app) as origin, browser.new_context(java_script_enabled=False) as visitor:
        page = visitor.new_page()
        page.goto(origin)
        page.get_by_role("button", name="Send").click()
        page.get_by_text("If you saw no captcha, allow scripts.").wait_for()
        assert page.get_by_role("button").count() == 0
