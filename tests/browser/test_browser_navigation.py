"""The challenge page in Chromium: in a frame, after it was closed, its captcha's language."""

from __future__ import annotations

import pytest
from browser import TENCENT, browser, context, page, serve_script
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from tcaptcha_middleware import Guard, Page, TCaptchaMiddleware
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside


class Site:
    """An application with a protected page, and one that shows it in a frame."""

    def __init__(self):
        self.guard = self.guarded_by(Page())
        self.plain = Guard(["/secret"], FakeVerifier())

    @staticmethod
    def guarded_by(page):
        return Guard(["/secret"], FakeVerifier(), page=page)

    async def __call__(self, scope, receive, send):
        async def home(request):
            return HTMLResponse('<title>Home</title><iframe src="/secret"></iframe>')

        async def secret(request):
            return PlainTextResponse("inside")

        app = Starlette(routes=[Route("/", home), Route("/secret", secret)])
        await TCaptchaMiddleware(app, self.guard)(scope, receive, send)


@pytest.fixture
def site():
    site = Site()
    with serving(site) as origin:
        site.origin = origin
        yield site


def test_a_frame_says_why_it_shows_no_captcha_and_offers_a_tab(page, context, site):
    page.goto(site.origin)
    frame = page.frame_locator("iframe")
    frame.get_by_role("status").get_by_text("cannot show in a frame").wait_for()
    assert frame.get_by_role("button").count() == 0
    with context.expect_page() as opened:
        frame.get_by_role("link", name="Open it in a tab of its own").click()
    opened.value.get_by_role("button", name="solve").click()
    opened.value.get_by_text("inside").wait_for()
    assert page.frames[1].evaluate("window.tencent ?? null") is None


def test_without_a_page_a_frame_shows_the_refusal(page, site):
    site.guard = site.plain
    page.goto(site.origin)
    page.frame_locator("iframe").get_by_role("heading", name="Forbidden").wait_for()


def test_the_button_has_the_focus_after_the_challenge_was_closed(page, site):
    page.goto(f"{site.origin}/secret")
    page.get_by_role("button", name="close").click()
    page.get_by_role("status").get_by_text("closed").wait_for()
    assert page.evaluate("document.activeElement.id") == "start"
    page.keyboard.press("Enter")
    page.get_by_role("button", name="close").click()
    page.wait_for_function("() => document.activeElement.id === 'start'")


def below_a_prefix(path):
    """Return the path behind a proxy that passes on only what is below the prefix."""
    return path.removeprefix("/team/app") if path.startswith("/team/app/") else "/nothing"


# What a proxy makes of a path. The last one changes that of the page only.
PROXIES = {
    "a prefix removed": ("/team/app/secret", below_a_prefix),
    "a slash removed": ("//secret", lambda path: path.replace("//", "/")),
    "a path replaced": ("/a/b/secret", {"/a/b/secret": "/secret"}.get),
}


@pytest.mark.parametrize("proxy", PROXIES)
def test_behind_a_proxy_that_changes_paths_the_challenge_is_shown(page, proxy):
    path, change = PROXIES[proxy]
    site, asked, origins = Site(), [], set()

    async def proxied(scope, receive, send):
        if scope["type"] == "http":
            changed = change(scope["path"]) or scope["path"]
            scope = scope | {"path": changed, "raw_path": changed.encode()}
            if "settings" in changed:
                asked.append(scope["query_string"].decode())
        await site(scope, receive, send)

    page.on("request", lambda request: origins.add("/".join(request.url.split("/")[:3])))
    with serving(proxied) as origin:
        page.goto(f"{origin}{path}")
        page.get_by_role("button", name="solve").click()
        page.get_by_text("inside").wait_for()
        assert origins == {origin, "https://turing.captcha.qcloud.com"}
    # The rule's own captcha, if the path is known.
    known = "/secret" if proxy == "a prefix removed" else path
    assert f"for=GET+{known.replace('/', '%2F')}" in asked[0]


def test_the_address_of_the_challenge_page_never_chooses_its_module(page):
    site, asked = Site(), []

    # A proxy that decodes a path twice, passes on what is below `/team`, and serves uploads.
    async def proxied(scope, receive, send):
        path = scope["path"]
        if scope["type"] == "http":
            asked.append(path)
            if path.startswith("/up/"):
                path = "/secret"
            elif not path.startswith("/team/"):
                path = "/nothing"
            scope = scope | {"path": path.removeprefix("/team"), "raw_path": b""}
        await site(scope, receive, send)

    with serving(proxied) as origin:
        page.goto(f"{origin}/up/evil/..%2f..%2fteam/secret")
        page.get_by_role("status").get_by_text("could not be loaded").wait_for()
    assert not [path for path in asked if path.startswith("/up/") and path.endswith(".js")]


LANGUAGES = {
    "the visitor's": (None, "de", "en"),
    "the page's": ("zh-HK", "zh-hk", "zh-tw"),
}


@pytest.mark.parametrize(("own", "tencent", "lang"), LANGUAGES.values(), ids=LANGUAGES)
def test_the_captcha_has_the_visitors_language_even_if_the_page_has_not(
    browser, site, own, tencent, lang
):
    site.guard = site.guarded_by(Page(language=own))
    with browser.new_context(locale="de-AT") as visitor:
        visitor.route(TENCENT, serve_script)
        page = visitor.new_page()
        page.goto(f"{site.origin}/secret")
        page.get_by_role("button", name="solve").wait_for()
        assert page.evaluate("tencent.made[0].options.userLanguage") == tencent
        assert page.evaluate("document.documentElement.lang") == lang
