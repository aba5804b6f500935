"""What forms say, and when: in the visitor's language, loading first, and prepared for."""

from __future__ import annotations

import pytest
from browser import SCRIPT, TENCENT, browser, context, page, serve_script
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from tcaptcha_middleware import Guard, Rule, TCaptchaMiddleware
from tcaptcha_middleware.languages import MESSAGES
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

BODY = """<title>Form</title><script type="module" src="/tcaptcha/tcaptcha.js"></script>
<form data-tcaptcha action="/login" method="post">
<label>Name <input name="name"></label><button>Send</button></form>
<form data-tcaptcha action="/free" method="post"><button>Free</button></form>"""
READY = "() => Boolean(customElements.get('tcaptcha-button'))"
NEVER = Rule("POST /free", when=lambda request: False)


class Forms:
    """The site, and the captchas' settings that were asked for."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.lang: str | None = "en"
        self.guard = Guard(["POST /login", NEVER], FakeVerifier(), page="/tcaptcha")

    async def __call__(self, scope, receive, send):
        async def home(request):
            attribute = "" if self.lang is None else f' lang="{self.lang}"'
            return HTMLResponse(f"<!doctype html><html{attribute}>{BODY}")

        async def sent(request):
            return PlainTextResponse("inside")

        routes = [Route("/", home), Route("/{path}", sent, methods=["POST"])]
        app = TCaptchaMiddleware(Starlette(routes=routes), self.guard)
        await app(scope, receive, send)


@pytest.fixture
def forms():
    forms = Forms("")
    with serving(forms) as origin:
        forms.origin = origin
        yield forms


def open_page(page, forms):
    page.goto(forms.origin)
    page.wait_for_function(READY)


def status_of(page):
    return page.locator("form").first.locator("[role=status]")


LANGUAGES = {
    # The page's `lang`, the visitor's languages, the texts, and the captcha's language.
    "an English page": ("en-GB", "zh-CN", "en", "en"),
    "a page in Chinese": ("zh", "en-US", "zh-cn", "zh-cn"),
    "Taiwan": ("zh-TW", "en-US", "zh-tw", "zh-tw"),
    "Hong Kong": ("ZH-hant-HK", "en-US", "zh-tw", "zh-hk"),
    "an underscore": ("zh_tw", "en-US", "zh-tw", "zh-tw"),
    "Traditional": ("zh-Hant", "en-US", "zh-tw", "zh-tw"),
    "a page without a language": (None, "zh-HK", "zh-tw", None),
    "another language": ("de-AT", "zh-TW", "zh-tw", "de"),
    "an undocumented one": ("nb-NO", "fr", "en", "nb-no"),
}


@pytest.mark.parametrize(
    ("lang", "locale", "spoken"),
    [(lang, locale, spoken) for lang, locale, *spoken in LANGUAGES.values()],
    ids=LANGUAGES,
)
def test_a_form_and_its_captcha_speak_the_language_of_the_page(
    browser, forms, lang, locale, spoken
):
    forms.lang, (texts, tencent) = lang, spoken
    with browser.new_context(locale=locale) as visitor:
        visitor.route(TENCENT, serve_script)
        page = visitor.new_page()
        open_page(page, forms)
        page.get_by_role("button", name="Send").click()
        status = status_of(page)
        status.get_by_text(MESSAGES[texts]["busy"], exact=True).wait_for()
        assert status.get_attribute("lang") == texts
        assert page.evaluate("tencent.made[0].options.userLanguage ?? null") == tencent
        page.get_by_role("button", name="close").click()
        status.get_by_text(MESSAGES[texts]["closed"], exact=True).wait_for()


def test_the_texts_of_an_application_come_first(page, context, forms):
    forms.lang = "zh-CN"
    open_page(page, forms)
    page.evaluate("""import('/tcaptcha/tcaptcha.js').then(({ messages }) => {
        messages.busy = '请滑动滑块。' })""")
    page.get_by_role("button", name="Send").click()
    status = status_of(page)
    status.get_by_text("请滑动滑块。").wait_for()
    assert status.get_attribute("lang") == "zh-CN"
    page.get_by_role("button", name="close").click()
    status.get_by_text(MESSAGES["zh-cn"]["closed"]).wait_for()


def test_a_form_says_that_it_loads_until_there_is_something_to_solve(page, context, forms):
    forms.lang = "zh-CN"
    held = []
    context.unroute(TENCENT)
    context.route(TENCENT, lambda route: held.append(route))  # noqa: PLW0108  as in browser.py
    open_page(page, forms)
    page.get_by_role("button", name="Send").click()
    form, status = page.locator("form").first, status_of(page)
    status.get_by_text(MESSAGES["zh-cn"]["loading"]).wait_for()
    assert form.get_attribute("data-tcaptcha-state") == "loading"
    assert page.get_by_role("button", name="Send").get_attribute("aria-busy") == "true"
    held[0].fulfill(body=SCRIPT, content_type="text/javascript")
    status.get_by_text(MESSAGES["zh-cn"]["busy"]).wait_for()
    assert form.get_attribute("data-tcaptcha-state") == "busy"


def test_a_form_whose_settings_cannot_be_loaded_says_so_in_english(page, context, forms):
    forms.lang = "zh-CN"
    context.route("**/settings.json*", lambda route: route.abort())
    open_page(page, forms)
    page.get_by_role("button", name="Send").click()
    status = status_of(page)
    status.get_by_text("The captcha could not be loaded. Please try again.").wait_for()
    assert status.get_attribute("lang") == "en"


def test_texts_whose_language_is_unknown_are_not_labelled_as_one(page, context, forms):
    open_page(page, forms)
    page.evaluate("""async () => {
        const { default: captcha } = await import('/tcaptcha/tcaptcha.js');
        const settings = await (await fetch('/tcaptcha/settings.json')).json();
        captcha.options.settings = { ...settings, messages: { busy: 'Löse es.' } } }""")
    page.get_by_role("button", name="Send").click()
    status_of(page).get_by_text("Löse es.").wait_for()
    assert status_of(page).get_attribute("lang") == ""


TOUCHES = {
    "the focus": lambda page: page.get_by_label("Name").focus(),
    "a pointer": lambda page: page.get_by_label("Name").dispatch_event("pointerdown"),
}


@pytest.mark.parametrize("touch", TOUCHES.values(), ids=TOUCHES)
def test_the_first_touch_loads_tencents_script_and_makes_the_live_region(
    page, context, forms, touch
):
    open_page(page, forms)
    assert (page.evaluate("window.tencent ?? null"), status_of(page).count()) == (None, 0)
    touch(page)
    page.wait_for_function("() => window.tencent?.loads === 1")
    assert (status_of(page).count(), status_of(page).text_content()) == (1, "")
    assert page.evaluate("tencent.made") == []
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="solve").wait_for()
    assert page.evaluate("tencent.loads") == 1


def test_a_form_that_needs_no_captcha_loads_no_script(page, forms):
    open_page(page, forms)
    with page.expect_response("**/settings.json*"):
        page.get_by_role("button", name="Free").focus()
    page.wait_for_timeout(300)
    assert page.evaluate("window.tencent ?? null") is None
    assert page.locator("script[src*='qcloud.com']").count() == 0
    page.get_by_role("button", name="Free").click()
    page.get_by_text("inside").wait_for()


def test_a_script_that_could_not_be_prepared_is_tried_again(page, context, forms):
    context.unroute(TENCENT)
    context.route(TENCENT, lambda route: route.abort())
    open_page(page, forms)
    with page.expect_event("requestfailed"):
        page.get_by_label("Name").focus()
    context.unroute(TENCENT)
    context.route(TENCENT, serve_script)
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="solve").wait_for()
