"""Each page that visitors see, checked by axe-core: light and dark, at 100 to 400 % zoom."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import browser
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier
from tcaptcha_middleware.demo.site import SCRIPT
from tcaptcha_middleware.demo.site import site as demo_site
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

# A screen of 1280 by 1024, and the same at 200 % and 400 % (WCAG 2.2, 1.4.4 and 1.4.10).
SIZES = [(1280, 1024), (640, 512), (320, 256)]
OPTIONS = {
    "rules": {"target-size": {"enabled": True}},  # of WCAG 2.2; off by default
    # Otherwise contrast is not judged beside the marks of the demo's steps.
    "checks": {"color-contrast": {"options": {"ignorePseudo": True}}},
}

PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>A page</title>
<style>body {{ background: Canvas; color: CanvasText }}</style>
<script type="module" src="/tcaptcha/tcaptcha.js"></script><main><h1>A page</h1>{}</main>"""
FORM = """<form data-tcaptcha action="/login" method="post">
<label>Name <input name="name"></label> <button>Log in</button>
<p data-tcaptcha-status role="status" aria-live="polite"></p></form>"""
ELEMENT = """<form action="/login" method="post"><label>Name <input name="name"></label>
<tcaptcha-button>Log in</tcaptcha-button></form>"""
WITHOUT_CAPTCHA = '<form action="/login" method="post"><button>Log in</button></form>'
EMBEDDED = """<div id="place"></div><script src="/emulator/TJCaptcha.js"></script><script>
new TencentCaptcha(document.getElementById("place"), "190000000", () => {},
    { type: "embed", enableDarkMode: true }).show();</script>"""
PAGES = {
    "/form": FORM,
    "/element": ELEMENT,
    "/without": WITHOUT_CAPTCHA,
    "/embedded": EMBEDDED,
    "/framed": '<iframe title="A report" src="/report" style="width: 100%"></iframe>',
}


async def ok(request):
    return HTMLResponse(PAGE.format("Done."))


def application(verifier, emulator):
    contents = {path: HTMLResponse(PAGE.format(body)) for path, body in PAGES.items()}
    app = Starlette(
        routes=[
            *(Route(path, content) for path, content in contents.items()),
            Route("/login", ok, methods=["POST"]),
            Route("/report", ok),
            Mount("/emulator", emulator),
        ]
    )
    guard = Guard(["POST /login", "GET /report"], verifier, page="/tcaptcha")
    app.add_middleware(TCaptchaMiddleware, guard=guard)
    return app


@pytest.fixture
def served(request):
    emulator = TencentEmulator()
    with emulator.serve() as endpoint:
        settings = emulator.settings | {"endpoint": endpoint, "script": SCRIPT}
        with serving(request.param(TencentVerifier(**settings), emulator)) as origin:
            yield request.param, origin, emulator


@pytest.fixture(params=["light", "dark"])
def page(request, browser, served):
    _, origin, _ = served
    context = browser.new_context(
        base_url=origin, color_scheme=request.param, reduced_motion="reduce"
    )
    context.set_default_timeout(10_000)
    page = context.new_page()
    yield page
    context.close()


@pytest.fixture
def emulator(served):
    return served[2]


def only(application):
    """Run a test with this application."""
    return pytest.mark.parametrize(
        "served", [application], indirect=True, ids=[application.__name__]
    )


def assert_accessible(page, frame=None):
    for width, height in SIZES:
        page.set_viewport_size({"width": width, "height": height})
        results = Axe().run(frame or page, options=OPTIONS)
        assert results.violations_count == 0, f"{width} px: {results.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)


def dialog(page):
    return page.get_by_role("dialog")


@only(application)
@pytest.mark.parametrize("path", ["/form", "/element"])
def test_a_form_is_accessible_before_during_and_after_its_challenge(page, emulator, path):
    page.goto(path)
    assert_accessible(page)
    button(page, "Log in").click()
    dialog(page).wait_for()
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.get_by_text("closed").wait_for()
    assert_accessible(page)
    emulator.challenge({"error": 1001})
    button(page, "Log in").click()
    page.get_by_text("could not be loaded").wait_for()
    assert_accessible(page)


@only(application)
def test_a_challenge_that_is_loading_is_accessible(page, emulator):
    emulator.challenge({"latency": 30})
    page.goto("/form")
    button(page, "Log in").click()
    page.get_by_text("Loading the captcha").wait_for()
    assert_accessible(page)


@only(application)
def test_an_embedded_challenge_is_accessible(page):
    page.goto("/embedded")
    dialog(page).wait_for()
    assert_accessible(page)


@only(application)
def test_the_challenge_page_is_accessible_before_during_and_after_its_challenge(page, emulator):
    emulator.challenge({"latency": 30})
    page.goto("/report")
    page.get_by_text("Loading the captcha").wait_for()
    assert_accessible(page)
    # axe does not judge buttons that are disabled.
    assert page.locator("#start").evaluate("it => getComputedStyle(it).opacity") == "1"
    page.reload()
    dialog(page).wait_for()
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.get_by_text("was closed").wait_for()
    assert_accessible(page)


@only(application)
def test_the_challenge_page_in_a_frame_is_accessible(page):
    page.goto("/framed")
    (frame,) = page.main_frame.child_frames
    frame.get_by_text("cannot show in a frame").wait_for()
    assert_accessible(page, frame)


@only(application)
def test_the_challenge_page_without_scripts_is_accessible(page):
    def block_scripts(route):
        answer = route.fetch()
        policy = "script-src 'none'"
        headers = answer.headers | {"content-security-policy": policy}
        route.fulfill(response=answer, headers=headers)

    page.route("**/report", block_scripts)
    page.goto("/report")
    page.get_by_text("This page needs JavaScript").wait_for()
    assert_accessible(page)


@only(application)
def test_the_page_of_a_refusal_is_accessible(page):
    page.goto("/without")
    button(page, "Log in").click()
    page.get_by_text("ticket_missing").wait_for()
    assert_accessible(page)


@only(demo_site)
def test_the_demo_is_accessible_before_and_after_requests(page):
    page.goto("/")
    page.locator("summary").last.wait_for()
    assert_accessible(page)
    for number, name in enumerate(["No ticket", "Over five", "Down, at the comm", "Script"]):
        page.get_by_role("button", name=name).click()
        page.locator("#history li").nth(number).wait_for()
        assert_accessible(page)
    page.locator("summary").evaluate_all("all => all.forEach((each) => each.click())")
    assert_accessible(page)


@only(demo_site)
def test_the_demo_is_accessible_while_it_is_busy(page):
    page.goto("/")
    button(page, "Log in").click()
    dialog(page).wait_for()
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.locator("#history li").wait_for()
    page.get_by_role("button", name="Down, at the login").click()
    page.locator("[aria-busy=true]").wait_for()
    assert_accessible(page)


@only(demo_site)
def test_the_report_is_accessible(page):
    page.goto("/report")
    dialog(page).get_by_role("button", name="Solve").click()
    page.get_by_role("heading", name="The report").wait_for()
    assert_accessible(page)


# -- With the keyboard only ------


def press(page, *keys):
    for key in keys:
        page.keyboard.press(key)


@only(application)
def test_a_form_and_its_challenge_work_with_the_keyboard_only(page):
    page.goto("/form")
    press(page, "Tab", "A", "Tab", "Enter")
    dialog(page).wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("closed").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Log in"
    page.keyboard.press("Enter")
    dialog(page).wait_for()
    press(page, "Tab", "Enter")
    page.get_by_text("Done.").wait_for()


@only(application)
def test_the_challenge_page_works_with_the_keyboard_only(page):
    page.goto("/report")
    dialog(page).wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("was closed").wait_for()
    # The button has the focus.
    page.keyboard.press("Enter")
    dialog(page).wait_for()
    press(page, "Tab", "Enter")
    page.get_by_text("Done.").wait_for()


@only(application)
def test_the_page_of_a_refusal_works_with_the_keyboard_only(page):
    page.goto("/without")
    press(page, "Tab", "Enter")
    page.get_by_text("ticket_missing").wait_for()
    press(page, "Tab", "Enter")
    page.get_by_role("button", name="Log in").wait_for()
