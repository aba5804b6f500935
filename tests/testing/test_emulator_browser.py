"""The emulator's client script in a real browser, under a strict content security policy."""

from __future__ import annotations

import re
from base64 import b64encode
from contextlib import contextmanager
from pathlib import Path

import pytest
from browser import browser

from tcaptcha_middleware import Submission, TencentVerifier
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import serving

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.outside

APP_ID = "190000000"
NAMES = ["TJCaptcha.js", "TCaptcha.js", "TJNCaptcha-global.js", "TCaptcha-global.js"]
WITHOUT_ELEMENT = [name for name in NAMES if name != "TJNCaptcha-global.js"]

# The policy of all test pages: no inline script, no inline style, no HTML from text.
POLICY = (
    "default-src 'none'; script-src {0}; connect-src {0}; base-uri 'none'; "
    "trusted-types loader; require-trusted-types-for 'script'"
)
SETUP = """
    window.answers = [];
    window.answered = new Promise((done, failed) => {
      window.callback = (result) => { answers.push(result); done(result); };
      setTimeout(() => failed(new Error("the callback was not called")), 20000);
    });
    window.answered.catch(() => {});
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => {
      violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
    });
"""
LOAD = """(url) => new Promise((done) => {
    window.loader ??= trustedTypes.createPolicy("loader", { createScriptURL: (text) => text });
    const script = document.createElement("script");
    script.src = loader.createScriptURL(url);
    script.onload = () => done(typeof window.TencentCaptcha);
    script.onerror = () => done("error");
    document.head.append(script);
})"""
BUTTON = '<button id="place">Order</button>'
DIV = '<div id="place"></div>'


# Servers and the tab, once for the module.


class Behind:
    """An app at a fixed address that tests replace."""

    app = None

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


class Html:
    def __init__(self, body, policy):
        self.content = f"<!doctype html><html lang=en><title>A page</title>{body}".encode()
        self.headers = [
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-security-policy", policy.encode()),
        ]

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.content})


@pytest.fixture(scope="module")
def tab(browser):
    tab = browser.new_page()
    tab.set_default_timeout(10_000)
    tab.add_init_script(SETUP)
    return tab


@pytest.fixture
def page(tab):
    """Return the module's tab, reset; a new tab for each test takes a second."""
    tab.set_viewport_size({"width": 1000, "height": 800})
    tab.emulate_media(color_scheme="light")
    yield tab
    tab.unroute_all()


@pytest.fixture(scope="module")
def emulator_address():
    behind = Behind()
    with serving(behind, lifespan="off") as origin:
        yield behind, origin


@pytest.fixture(scope="module")
def site_address():
    behind = Behind()
    with serving(behind, lifespan="off") as origin:
        yield behind, origin


# Fixtures.


@pytest.fixture
def emulator(emulator_address):
    emulator_address[0].app = TencentEmulator()
    return emulator_address[0].app


@pytest.fixture
def code_of(emulator, emulator_address):
    with TencentVerifier(**emulator.settings, endpoint=emulator_address[1]) as verifier:
        yield (
            lambda answer: (
                verifier.verify(
                    Submission(answer["ticket"], answer["randstr"], "203.0.113.7")
                ).code
            )
        )


@pytest.fixture
def visit(page, emulator, emulator_address, site_address):
    """Open a page, load a script into it, and finally assert that no policy was violated."""

    def visit(body="", name="TJCaptcha.js"):
        origin = emulator_address[1]
        site_address[0].app = Html(body.replace("EMULATOR", origin), POLICY.format(origin))
        page.goto(site_address[1])
        return page.evaluate(LOAD, f"{origin}/{name}") if name else None

    yield visit
    assert page.evaluate("violations") == []


@pytest.fixture
def make(page, visit):
    """Create a captcha and show it."""
    show = "captcha.show()"

    def make(
        options=None, body="", name="TJCaptcha.js", form="appId, callback, options", then=show
    ):
        visit(body, name)
        construct = f"""({{appId, options}}) => {{
            const place = document.getElementById("place");
            window.captcha = new TencentCaptcha({form});
            {then}
        }}"""
        page.evaluate(construct, {"appId": APP_ID, "options": options or {}})

    return make


def answer(page):
    return page.evaluate("answered")


def dialog(page):
    return page.get_by_role("dialog")


def solve(page):
    dialog(page).get_by_role("button", name="Solve").click()
    return answer(page)


def gone(page):
    playwright.expect(dialog(page)).to_have_count(0)


@contextmanager
def challenged(page):
    """Wait until the emulator has answered, and the page has acted on it."""
    with page.expect_response(re.compile("/__emulator__/challenge$")) as answered:
        yield
    answered.value.finished()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


# The three constructors.


@pytest.mark.parametrize("name", WITHOUT_ELEMENT)
def test_the_constructor_accepts_an_app_id_and_a_callback(page, make, code_of, name):
    make(name=name)
    assert code_of(solve(page)) == 1
    gone(page)


@pytest.mark.parametrize("name", NAMES)
def test_the_constructor_accepts_an_element_and_an_app_id(page, make, code_of, name):
    make(body=DIV, name=name, form="place, appId, callback, options")
    assert code_of(solve(page)) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_constructor_accepts_an_element_with_data_attributes(page, make, code_of, name):
    data = f'data-appid="{APP_ID}" data-cbfn="callback" data-biz-state="order 1"'
    make(body=f'<button id="place" {data}>Order</button>', name=name, form="place", then="")
    page.get_by_role("button", name="Order").click()
    solved = solve(page)
    assert (code_of(solved), solved["bizState"]) == (1, "order 1")


def test_the_element_with_the_documented_id_is_bound_automatically(page, visit, code_of):
    data = f'data-appid="{APP_ID}" data-cbfn="callback"'
    visit(f'<button id="TencentCaptcha" {data}>Order</button>')
    page.get_by_role("button", name="Order").click()
    assert code_of(solve(page)) == 1


def test_a_script_in_the_head_also_binds_the_element(page, visit, code_of):
    data = f'data-appid="{APP_ID}" data-cbfn="callback"'
    script = '<script src="EMULATOR/TJCaptcha.js"></script>'
    visit(f'{script}<button id="TencentCaptcha" {data}>Order</button>', name=None)
    page.get_by_role("button", name="Order").click()
    assert code_of(solve(page)) == 1


def test_an_element_with_that_id_without_data_is_not_bound(page, visit):
    assert visit('<button id="TencentCaptcha">Order</button>') == "function"
    page.get_by_role("button", name="Order").click()
    gone(page)


def test_an_app_id_may_be_a_number(page, make, emulator):
    make(form="Number(appId), callback")
    solve(page)
    assert emulator.challenges[0]["appId"] == APP_ID


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("appId, callback, options", "TJNCaptcha-global.js", "needs an element"),
        ("'x', callback", "TJCaptcha.js", "CaptchaAppId is 'x'"),
        ("place", "TJCaptcha.js", "CaptchaAppId is ''"),
        ("appId", "TJCaptcha.js", "a callback is missing"),
        ("place, appId", "TJCaptcha.js", "a callback is missing"),
        ("appId, callback, { type: 'embed' }", "TJCaptcha.js", "on the page"),
        (
            "document.createElement('div'), appId, callback, { type: 'embed' }",
            "TJCaptcha.js",
            "on the page",
        ),
    ],
)
def test_the_constructor_throws_on_invalid_arguments(make, form, name, message):
    with pytest.raises(playwright.Error, match=message):
        make(body=DIV, name=name, form=form)


# The result for the callback.

SOLVED = {"ret", "ticket", "randstr", "bizState"}
DURATIONS = {"verifyDuration", "actionDuration", "sid"}
SHAPES = {
    "TJCaptcha.js": ("CaptchaAppId", DURATIONS),
    "TCaptcha.js": ("appid", set()),
    "TJNCaptcha-global.js": ("CaptchaAppId", set()),
    "TCaptcha-global.js": ("appid", set()),
}


@pytest.mark.parametrize("name", NAMES)
def test_each_script_reports_success_in_its_own_shape(page, make, name):
    app_id, durations = SHAPES[name]
    make({"bizState": {"a": [1]}}, DIV, name, "place, appId, callback, options")
    solved = solve(page)
    assert solved.keys() == SOLVED | {app_id} | durations
    assert (solved["ret"], solved[app_id], solved["bizState"]) == (0, APP_ID, {"a": [1]})


def test_durations_are_whole_milliseconds(page, make):
    make()
    solved = solve(page)
    assert solved["verifyDuration"] >= solved["actionDuration"] >= 0
    assert {type(solved[name]) for name in ("verifyDuration", "actionDuration")} == {int}
    assert solved["sid"].isdigit()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("way", ["Escape", "button", "scripted"])
def test_closing_is_reported_without_a_ticket(page, make, emulator, name, way):
    if way == "scripted":
        emulator.challenge({"close": True})
    make({"bizState": 7}, DIV, name, "place, appId, callback, options")
    if way == "Escape":
        dialog(page).wait_for()
        page.keyboard.press("Escape")
    elif way == "button":
        dialog(page).get_by_role("button", name="Close").click()
    assert answer(page) == {SHAPES[name][0]: APP_ID, "ret": 2, "bizState": 7}
    gone(page)


# The puzzle.


def gap(page):
    return int(page.locator(".hole").evaluate("hole => hole.style.getPropertyValue('--at')"))


def test_the_puzzle_has_a_name_and_a_description(page, make):
    make()
    playwright.expect(dialog(page)).to_have_accessible_name("Captcha emulator")
    playwright.expect(dialog(page)).to_have_accessible_description(
        re.compile("not Tencent's captcha.*proves nothing")
    )


def test_the_puzzle_can_be_solved_with_arrow_keys(page, make, code_of):
    make()
    playwright.expect(page.get_by_role("slider")).to_be_focused()
    page.keyboard.press("End")
    for _ in range(100 - gap(page) - 3):
        page.keyboard.press("ArrowLeft")
    assert code_of(answer(page)) == 1


def test_the_puzzle_can_be_solved_with_tab_and_enter(page, make, code_of):
    make()
    playwright.expect(page.get_by_role("slider")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert code_of(answer(page)) == 1


def drag(page, share):
    box = page.get_by_role("slider").bounding_box()
    middle, thumb = box["y"] + box["height"] / 2, 16
    page.mouse.move(box["x"] + thumb / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + thumb / 2 + (box["width"] - thumb) * share / 100, middle)
    page.mouse.up()


def test_dragging_solves_the_puzzle_only_at_the_gap(page, make, code_of):
    make()
    dialog(page).wait_for()
    drag(page, gap(page) - 20)
    assert page.evaluate("answers") == []
    page.keyboard.press("Home")
    drag(page, gap(page))
    assert code_of(answer(page)) == 1


def test_the_focus_returns_after_the_challenge(page, make):
    make(body=BUTTON, form="place, appId, callback, options", then="")
    page.get_by_role("button", name="Order").focus()
    page.keyboard.press("Enter")
    solve(page)
    playwright.expect(page.get_by_role("button", name="Order")).to_be_focused()


@pytest.mark.parametrize("width", [320, 375, 1000])
def test_the_puzzle_fits_the_screen(page, make, width):
    page.set_viewport_size({"width": width, "height": 667})
    make()
    box = dialog(page).bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


LIGHT, DARK = "rgb(255, 255, 255)", "rgb(29, 35, 45)"


@pytest.mark.parametrize(
    ("asked", "system", "expected"),
    [
        (None, "light", LIGHT),
        (None, "dark", LIGHT),
        (False, "dark", LIGHT),
        (True, "light", LIGHT),
        (True, "dark", DARK),
        ("force", "light", DARK),
        ("force", "dark", DARK),
    ],
)
def test_dark_mode_follows_the_option_and_the_system(page, make, asked, system, expected):
    page.emulate_media(color_scheme=system)
    make({} if asked is None else {"enableDarkMode": asked})
    playwright.expect(dialog(page)).to_have_css("background-color", expected)


def test_styles_of_the_page_do_not_apply_to_the_puzzle(page, make):
    make(body=BUTTON)
    page.evaluate("""() => {
        const sheet = new CSSStyleSheet();
        sheet.replaceSync("* { display: none !important } dialog, button { opacity: 0 }");
        document.adoptedStyleSheets = [sheet];
    }""")
    playwright.expect(page.get_by_role("button", name="Order")).to_be_hidden()
    inside = "box => getComputedStyle(box).opacity + getComputedStyle(box).display"
    shown = page.locator("dialog").evaluate(inside)
    assert shown == "1block"


# Options.


def test_the_emulator_records_the_options_of_the_page(page, make, emulator):
    options = {
        "userLanguage": "zh-cn",
        "enableDarkMode": "force",
        "bizState": {"order": 1},
        "needFeedBack": False,
        "sdkOpts": {"width": 140, "height": 140},
        "aidEncrypted": "abc",
    }
    make(options)
    playwright.expect(dialog(page)).to_contain_text("language zh-cn")
    assert emulator.challenges == [
        {"script": "TJCaptcha.js", "appId": APP_ID, "options": options}
    ]


def test_options_that_are_not_json_are_recorded_as_text(page, make, emulator):
    make(form="appId, callback, { bizState: 10n, needFeedBack: undefined, showFn() {} }")
    dialog(page).wait_for()
    assert emulator.challenges[0]["options"] == {"bizState": "10", "needFeedBack": None}


def test_ready_and_show_fn_are_called_when_the_puzzle_is_shown(page, make):
    make(
        form="""appId, callback, {
            ready: ({ sdkView }) => answers.push(sdkView.width, sdkView.height > 100),
            showFn: () => answers.push("shown"),
        }"""
    )
    solve(page)
    assert page.evaluate("answers.slice(0, 3)") == [352, True, "shown"]


@pytest.mark.parametrize(("options", "count"), [({}, 1), ({"loading": False}, 0)], ids=str)
def test_loading_is_shown_unless_the_option_is_false(page, make, emulator, options, count):
    emulator.challenge({"hang": True})
    with challenged(page):
        make(options)
    playwright.expect(page.get_by_role("status")).to_have_count(count)


def test_an_embedded_captcha_is_inside_its_container(page, make, code_of):
    make(
        {"type": "embed"},
        f"<input autofocus>{DIV}<p>Below",
        form="place, appId, callback, options",
    )
    dialog(page).wait_for()
    assert page.locator("#place").get_by_role("dialog").count() == 1
    assert page.evaluate("document.activeElement.tagName") == "INPUT"
    top = dialog(page).bounding_box()
    assert top["y"] + top["height"] <= page.get_by_text("Below").bounding_box()["y"]
    assert code_of(solve(page)) == 1
    gone(page)


def test_escape_inside_an_embedded_captcha_closes_it(page, make):
    make({"type": "embed"}, DIV, form="place, appId, callback, options")
    page.get_by_role("slider").focus()
    page.keyboard.press("Escape")
    assert answer(page)["ret"] == 2


def test_a_click_on_an_embedded_captcha_starts_no_challenge(page, make, emulator):
    make({"type": "embed"}, DIV, form="place, appId, callback, options")
    dialog(page).get_by_text("Captcha emulator").click()
    solve(page)
    page.locator("#place").dispatch_event("click")
    assert len(emulator.challenges) == 1


# Methods.


def test_get_ticket_returns_the_last_ticket(page, make):
    make()
    assert page.evaluate("captcha.getTicket()") == {"CaptchaAppId": APP_ID, "ticket": ""}
    ticket = solve(page)["ticket"]
    assert page.evaluate("captcha.getTicket()") == {"CaptchaAppId": APP_ID, "ticket": ticket}


def test_destroy_ends_the_challenge_without_a_callback(page, make, emulator):
    make(body=BUTTON, form="place, appId, callback, options")
    dialog(page).wait_for()
    page.evaluate("captcha.destroy()")
    gone(page)
    page.get_by_role("button", name="Order").click()
    gone(page)
    assert (page.evaluate("answers"), len(emulator.challenges)) == ([], 1)


def test_destroy_ends_a_loading_challenge(page, make, emulator):
    emulator.challenge({"latency": 600})
    make()
    page.get_by_role("status").wait_for()
    page.evaluate("captcha.destroy()")
    playwright.expect(page.get_by_role("status")).to_have_count(0)
    assert page.evaluate("answers") == []


def test_showing_twice_starts_one_challenge(page, make, emulator):
    make()
    page.evaluate("captcha.show()")
    solve(page)
    assert len(emulator.challenges) == 1


def test_the_captcha_can_be_shown_again_from_its_callback(page, make, code_of):
    make(form="appId, (result) => { callback(result); captcha.show(); }")
    dialog(page).wait_for()
    page.keyboard.press("Escape")
    assert answer(page)["ret"] == 2
    dialog(page).get_by_role("button", name="Solve").click()
    page.get_by_role("slider").wait_for()
    closed, solved = page.evaluate("answers")
    assert (closed["ret"], code_of(solved)) == (2, 1)


# Scripted steps.


@pytest.mark.parametrize(
    "row",
    [({"code": 15}, 15), ({"code": 21}, 21), ({"age": 400}, 8), ({"app_id": 1}, 16)],
    ids=["forged", "risk", "expired", "another captcha's"],
)
def test_a_step_sets_the_ticket(page, make, emulator, code_of, row):
    ticket, code = row
    emulator.challenge({"ticket": ticket})
    make()
    assert code_of(solve(page)) == code


def test_a_trusted_visitor_sees_no_puzzle(page, make, emulator, code_of):
    emulator.challenge({"skip": True})
    make(form="appId, callback, { showFn: () => answers.push('shown') }")
    solved = answer(page)
    assert (solved["ret"], code_of(solved), page.evaluate("answers")) == (0, 1, [solved])


def test_a_challenge_that_hangs_calls_no_callback(page, make, emulator):
    emulator.challenge({"hang": True})
    with challenged(page):
        make()
    assert page.evaluate("answers") == []
    gone(page)


def test_an_error_comes_with_a_disaster_ticket_and_ret_0(page, make, emulator, code_of):
    codes = range(1001, 1014)
    emulator.challenge(*({"error": code} for code in codes))
    make({"bizState": 7}, then="")
    page.evaluate("""async () => {
        for (let code = 1001; code <= 1013; code++) {
          await new Promise((done) => {
            const callback = (result) => { answers.push(result); done(); };
            new TencentCaptcha("190000000", callback).show();
          });
        }
    }""")
    answers = page.evaluate("answers")
    for result, code in zip(answers, codes, strict=True):
        assert re.fullmatch(rf"trerror_{code}_{APP_ID}_[0-9]{{10}}", result["ticket"])
        assert re.fullmatch(r"@[0-9a-z]+", result["randstr"])
        assert (result["ret"], result["errorCode"]) == (0, code)
        assert result["errorMessage"]
    assert code_of(answers[0]) == 21
    assert answers[0]["errorMessage"].startswith("jsload_error")


def test_steps_are_taken_in_order_and_later_challenges_are_solvable(
    page, make, emulator, code_of
):
    emulator.challenge({"close": True}, {"error": 1002})
    make(
        form="appId, (result) => { callback(result); if (answers.length < 3) captcha.show(); }"
    )
    dialog(page).get_by_role("button", name="Solve").click()
    gone(page)
    assert [result.get("errorCode", result["ret"]) for result in page.evaluate("answers")] == [
        2,
        1002,
        0,
    ]


@pytest.mark.parametrize("place", ["constructor", "show"])
def test_the_script_throws_once_in_the_scripted_place(page, make, emulator, code_of, place):
    emulator.load({"throw": place})
    with pytest.raises(playwright.Error, match=f"throws in {place}, as scripted"):
        make()
    page.evaluate("new TencentCaptcha('190000000', callback).show()")
    assert code_of(solve(page)) == 1


@pytest.mark.parametrize("status", [404, 500, 503])
def test_a_script_with_an_http_error_fails_to_load(visit, emulator, status):
    emulator.load({"status": status})
    assert visit() == "error"
    assert visit() == "function"


def test_a_broken_script_loads_and_defines_nothing(page, visit, emulator):
    emulator.load({"broken": True})
    with page.expect_event("pageerror") as broken:
        assert visit() == "undefined"
    assert "SyntaxError" in broken.value.name
    assert visit() == "function"


def test_a_step_delays_the_script(page, visit, emulator):
    emulator.load({"latency": 0.3})
    visit()
    took = "performance.getEntriesByType('resource')[0].duration"
    assert page.evaluate(took) >= 290


def test_an_unreachable_emulator_is_a_failed_configuration(page, make):
    page.route("**/__emulator__/challenge", lambda route: route.abort())
    make()
    result = answer(page)
    assert (result["ret"], result["errorCode"]) == (0, 1006)
    assert result["errorMessage"].startswith("get_captcha_config_request_error")


def test_an_http_error_of_the_emulator_is_a_failed_configuration(page, make):
    headers = {"access-control-allow-origin": "*"}
    page.route(
        "**/__emulator__/challenge", lambda route: route.fulfill(status=502, headers=headers)
    )
    make()
    assert "HTTP 502" in answer(page)["errorMessage"]


def test_another_captchas_app_id_is_refused(page, make, emulator):
    emulator.challenge({"close": True})
    make(form="'190000001', callback")
    result = answer(page)
    assert (result["ret"], result["errorCode"]) == (0, 1006)
    assert result["ticket"].startswith("trerror_1006_190000001_")
    assert "captcha is 190000000, not 190000001" in result["errorMessage"]


# The guide.

GUIDE = Path(__file__).parents[2] / "docs/browser-tests.md"


def test_the_guides_test_passes(browser):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    with browser.new_context() as context:
        names["test_a_captcha_that_was_closed_may_be_tried_again"](context.new_page())


# aidEncrypted.


def encrypt(key, text, aad):
    aead = pytest.importorskip("cryptography.hazmat.primitives.ciphers.aead")
    iv = bytes(12)
    return b64encode(iv + aead.AESGCM(key).encrypt(iv, text.encode(), aad)).decode()


def test_a_captcha_with_one_time_accepts_an_aid_once(page, make, emulator, emulator_address):
    secret = emulator.settings["app_secret_key"]
    emulator_address[0].app = TencentEmulator(
        check_app_id=True, one_time=True, clock=lambda: 60
    )
    aid = {
        "aidEncrypted": encrypt((secret * 2)[:32].encode(), f"{APP_ID}&0&300", b"alice"),
        "aidEncryptedType": "gcm",
        "aidEncryptedAad": b64encode(b"alice").decode(),
    }
    make(aid)
    assert solve(page)["ticket"].startswith("tr03")
    make(aid)
    assert "used before" in answer(page)["errorMessage"]
    make()
    assert "requires aidEncrypted" in answer(page)["errorMessage"]
