"""The demo in Chromium, used as a visitor would."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest
from browser import browser, context, page

from tcaptcha_middleware import TencentVerifier
from tcaptcha_middleware.cli import main
from tcaptcha_middleware.demo.site import SCRIPT, site
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

PARTS = ["Page", "Server", "Gate", "Verifier", "Tencent", "Handler", "Page"]
LET_IN = "ok ok ok ok ok ok ok"


@contextmanager
def served_by(emulator, *shown, script, through=lambda app: app):
    with emulator.serve() as endpoint:
        settings = emulator.settings | {"endpoint": endpoint, "timeout": 30}
        app = site(TencentVerifier(**settings, script=script), *shown)
        with serving(through(app)) as origin:
            yield origin


@pytest.fixture(scope="module")
def offline():
    emulator = TencentEmulator()
    with served_by(emulator, emulator, script=SCRIPT) as origin:
        yield origin


@pytest.fixture(scope="module")
def account():
    with served_by(TencentEmulator(), script=None) as origin:
        yield origin


@pytest.fixture
def demo(page, offline):
    page.goto(offline)
    yield page
    assert page.evaluate("violations") == []


def press(page, name):
    page.get_by_role("button", name=name).click()


def solve(page):
    page.get_by_role("dialog").get_by_role("button", name="Solve").click()


VERDICT = """() => [
    document.querySelector("#verdict strong").textContent,
    [...document.querySelectorAll("#steps > li")].map((item) => item.dataset.state).join(" "),
]"""


def verdict(page, number=1):
    """Return the panel's verdict and the state of each part, after so many requests."""
    page.locator("#history li").nth(number - 1).wait_for()
    return tuple(page.evaluate(VERDICT))


def parts(page):
    return [text.partition(":")[0] for text in page.locator("#steps h3").all_text_contents()]


def facts(page, who):
    step = page.locator("#steps > li", has=page.locator("h3", has_text=who)).first
    pairs = step.locator("dt, dd").all_inner_texts()
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def test_a_login_is_shown_part_by_part(demo):
    press(demo, "Log in")
    solve(demo)
    assert verdict(demo) == ("200 · let in", LET_IN)
    assert parts(demo) == PARTS
    assert facts(demo, "Page").keys() == {"Ticket", "Randstr"}
    assert facts(demo, "Tencent")["Ticket"] == facts(demo, "Page")["Ticket"]
    assert len(facts(demo, "Page")["Ticket"]) == len("tr03…") + 8
    assert facts(demo, "Gate")["Pair"] == "in the form's fields"
    assert facts(demo, "Handler")["get_decision().code"] == "1"
    assert demo.locator("#verdict span").inner_text() == "Hello, Ada."


def test_a_name_is_shown_as_text(demo):
    name = "<img src=x onerror=alert(1)>"
    demo.get_by_label("Name").fill(name)
    press(demo, "Log in")
    solve(demo)
    assert verdict(demo)[0] == "200 · let in"
    assert demo.locator("#verdict span").inner_text() == f"Hello, {name}."


# By button: the panel's verdict, and the state of each part.
FAILURES = {
    "No ticket": ("403 · ticket_missing", "warn ok refused skipped skipped skipped refused"),
    "A made-up": ("403 · ticket_rejected", "ok ok ok refused refused skipped refused"),
    "A disaster": ("403 · disaster_ticket", "ok ok refused skipped skipped skipped refused"),
    "Closes": ("Nothing sent", "warn skipped skipped skipped skipped skipped"),
    "Over five": ("403 · ticket_expired", "ok ok ok refused refused skipped refused"),
    "Forged": ("403 · ticket_rejected", "ok ok ok refused refused skipped refused"),
    "Another": ("500 · misconfigured", "ok ok ok refused refused skipped refused"),
    "Code 1": ("403 · risk_denied", "ok ok ok refused refused skipped refused"),
    "Risk engine": ("403 · risk_denied", "ok ok ok refused refused skipped refused"),
    "One call": ("503 · verifier_unavailable", "ok ok ok refused refused skipped refused"),
    "Down, at the login": (
        "503 · verifier_unavailable",
        "ok ok refused skipped skipped skipped refused",
    ),
    "Down, at the comments": (
        "200 · let in unchecked",
        "ok ok warn skipped skipped warn warn",
    ),
    "Throttles": ("503 · overloaded", "ok ok ok refused refused skipped refused"),
    "Challenge fails": ("Nothing sent", "refused skipped skipped skipped skipped skipped"),
    "Script": ("Nothing sent", "refused skipped skipped skipped skipped skipped"),
}


def test_every_failure_ends_as_its_button_says(demo):
    verdicts, labels = {}, {}
    for number, name in enumerate(FAILURES, 1):
        press(demo, name)
        verdicts[name] = verdict(demo, number)
        labels[name] = demo.get_by_role("button", name=name).locator("small").inner_text()
    assert verdicts == FAILURES
    assert labels == {
        name: text.replace(" ·", "").lower() for name, (text, _) in FAILURES.items()
    }


def test_a_ticket_sent_twice_is_refused_by_the_gate(demo):
    press(demo, "The same ticket twice")
    refused = "ok ok refused skipped skipped skipped refused"
    assert verdict(demo, 2) == ("403 · ticket_reused", refused)
    demo.locator("#history button").nth(1).click()
    assert verdict(demo) == ("200 · let in", LET_IN)
    assert demo.evaluate("document.activeElement.ariaCurrent") == "true"


def test_closing_the_challenge_sends_nothing(demo):
    press(demo, "Log in")
    demo.get_by_role("dialog").wait_for()
    demo.keyboard.press("Escape")
    assert verdict(demo)[0] == "Nothing sent"
    assert facts(demo, "Page")["error.code"] == "closed"


def test_a_comment_shows_the_refusal_and_the_second_request(demo):
    press(demo, "Send a comment")
    solve(demo)
    assert verdict(demo, 2) == ("200 · let in", LET_IN)
    demo.locator("#history button").nth(1).click()
    assert verdict(demo)[0] == "403 · ticket_missing"


def test_a_comment_is_refused_if_the_challenge_is_closed(demo):
    press(demo, "Send a comment")
    demo.get_by_role("dialog").get_by_role("button", name="Close").click()
    assert verdict(demo)[0] == "403 · ticket_missing"


def test_the_report_shows_the_challenge_and_links_to_its_steps(demo):
    demo.get_by_role("link", name="Open the report").click()
    solve(demo)
    demo.get_by_role("heading", name="The report").wait_for()
    assert demo.locator("dd").all_inner_texts() == ["GET /report", "1", "None"]
    demo.get_by_role("link", name="See how this request passed").click()
    assert verdict(demo, 2) == ("200 · let in", LET_IN)
    assert facts(demo, "Gate")["Pair"] == "in the challenge's two cookies"
    assert demo.evaluate("location.search") == ""


def test_the_steps_remain_after_a_reload(demo):
    press(demo, "No ticket")
    before = verdict(demo)
    demo.reload()
    assert verdict(demo) == before


def test_the_demo_works_with_the_keyboard_only(demo):
    demo.get_by_label("Password").focus()
    demo.keyboard.press("Enter")
    demo.get_by_role("dialog").wait_for()
    demo.keyboard.press("Tab")
    demo.keyboard.press("Enter")
    assert verdict(demo)[0] == "200 · let in"
    demo.get_by_role("button", name="No ticket").focus()
    demo.keyboard.press("Enter")
    assert verdict(demo, 2)[0] == "403 · ticket_missing"
    assert demo.evaluate("document.activeElement.dataset.failure") == "missing"


OVERFLOWING = """() => [...document.querySelectorAll("body *:not(.unseen)")]
    .filter((item) => item.getBoundingClientRect().right > innerWidth + 0.5)
    .map((item) => item.outerHTML.slice(0, 80))"""


def test_nothing_is_wider_than_the_screen(demo):
    for number, name in enumerate(["Over five", "Down, at the comm", "Script"], 1):
        press(demo, name)
        verdict(demo, number)
        for width in (1280, 900, 375, 320):
            demo.set_viewport_size({"width": width, "height": 760})
            assert demo.evaluate("document.documentElement.scrollWidth") <= width
            assert demo.evaluate(OVERFLOWING) == []


# Colors in the middle of a transition may have too little contrast.
SETTLED = "Promise.allSettled(document.getAnimations().map((each) => each.finished))"
CONTRASTS = """() => {
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3)
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const back = (element) => {
        const rgba = parse(getComputedStyle(element).backgroundColor);
        return rgba[3] === 0 ? back(element.parentElement) : rgba;
    };
    const texts = [...document.querySelectorAll("body *")].filter((element) =>
        [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
    return texts.map((element) => {
        const [a, b] = [parse(getComputedStyle(element).color), back(element)].map(light);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        return [ratio, element.outerHTML.slice(0, 80)];
    }).filter(([ratio]) => ratio < 4.5);
}"""


def test_every_text_has_enough_contrast_in_light_and_dark(demo):
    for number, name in enumerate([None, "No ticket", "Closes", "Down, at the comm"]):
        if name:
            press(demo, name)
            verdict(demo, number)
        for scheme in ("light", "dark"):
            demo.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            demo.evaluate(SETTLED)
            assert demo.evaluate(CONTRASTS) == []


def test_reduced_motion_means_no_animations(demo):
    demo.emulate_media(reduced_motion="reduce")
    press(demo, "No ticket")
    verdict(demo)
    assert demo.evaluate("document.getAnimations().length") == 0


VISIBLE = """() => [...document.querySelectorAll("#verdict, #steps > li")]
    .map((item) => item.getBoundingClientRect())
    .every(({ top, bottom }) => top >= 0 && bottom <= innerHeight)"""


def test_every_step_is_visible_without_scrolling(demo):
    demo.set_viewport_size({"width": 1280, "height": 900})
    press(demo, "Log in")
    solve(demo)
    verdict(demo)
    assert demo.evaluate("scrollY") == 0
    assert demo.evaluate(VISIBLE)
    for number, name in enumerate(FAILURES, 2):
        press(demo, name)  # which may scroll to the button
        verdict(demo, number)
        assert demo.evaluate(VISIBLE), name


def test_the_code_of_a_button_is_that_of_the_page_and_of_the_server(demo):
    row = demo.locator(".rows > div", has_text="Throttles the account")
    row.get_by_text("Code").click()
    page_code, server_code = row.locator("pre").all_inner_texts()
    assert "await captcha.solve({ for: `POST ${path}` })" in page_code
    assert 'headers.set("X-Captcha-Ticket", pair.ticket)' in page_code
    assert server_code.splitlines()[-1] == (
        "emulator.script({'error': 'RequestLimitExceeded'})"
    )
    for name, code in {
        "Log in": '<form id="login" data-tcaptcha action="login" method="post">…</form>',
        "Send a comment": 'await captcha.fetch("./comment", { method: "POST", body })',
        "Open the report": 'href="report"',
    }.items():
        details = demo.locator("details", has_text=f"Code of “{name}”")
        assert code in details.locator("pre").first.text_content()
        assert "Guard(" in details.locator("pre").last.text_content()
    assert demo.locator("details").count() == 3 + demo.locator("[data-failure]").count()


# -- Where it is served ------


def test_one_port_is_enough_at_each_address_that_is_printed(page, capsys):
    requested = []
    page.on("request", lambda request: requested.append(request.url))

    def visit():
        addresses = re.findall(r"http://\S+", capsys.readouterr().out)
        assert addresses
        for address in addresses:
            page.goto(address, wait_until="networkidle")
            requested.clear()  # the last page's icon may be fetched late
            page.reload()
            press(page, "Send a comment")
            solve(page)
            assert verdict(page, 2)[0] == "200 · let in"
            press(page, "Script does not load")
            assert verdict(page, 3)[0] == "Nothing sent"
            page.get_by_role("link", name="Open the report").click()
            solve(page)
            page.get_by_role("heading", name="The report").wait_for()
            assert len(requested) > 10
            assert [url for url in requested if not url.startswith(f"{address}/")] == []
        assert page.evaluate("violations") == []

    assert main(["demo", "--host", "0.0.0.0", "--port", "0"], {}, visit) == 0


def test_the_demo_works_below_a_prefix_that_a_proxy_removes(page):
    def below_prefix(app):
        async def proxied(scope, receive, send):
            if scope["type"] == "http":
                assert scope["path"].startswith("/proxy/8000/")
                scope = scope | {"path": scope["path"].removeprefix("/proxy/8000")}
                scope["raw_path"] = scope["path"].encode()
            await app(scope, receive, send)

        return proxied

    emulator = TencentEmulator()
    with served_by(emulator, emulator, script=SCRIPT, through=below_prefix) as origin:
        page.goto(f"{origin}/proxy/8000/")
        press(page, "Log in")
        solve(page)
        assert verdict(page) == ("200 · let in", LET_IN)
        press(page, "Send a comment")
        solve(page)
        assert verdict(page, 3) == ("200 · let in", LET_IN)
        press(page, "Over five")
        assert verdict(page, 4)[0] == "403 · ticket_expired"
        page.get_by_role("link", name="Open the report").click()
        solve(page)
        page.get_by_role("heading", name="The report").wait_for()
        page.get_by_role("link", name="See how").click()
        page.wait_for_url(f"{origin}/proxy/8000/")
        assert page.evaluate("violations") == []


# -- With an account ------


def test_with_an_account_tencents_script_is_loaded_for_the_challenge(page, account):
    page.goto(account)
    page.locator("#login").wait_for()
    assert page.evaluate("window.tencent") is None
    press(page, "Log in")
    page.get_by_role("dialog").get_by_role("button", name="solve").click()
    # The emulator replaces Tencent here, and does not know the tickets of the fake script.
    assert verdict(page) == (
        "403 · ticket_rejected",
        "ok ok ok refused refused skipped refused",
    )
    assert page.evaluate("tencent.loads") == 1
    assert page.evaluate("violations") == []


def test_with_an_account_only_failures_without_the_emulator_are_offered(page, account):
    page.goto(account)
    shown = page.locator("[data-failure]:visible").evaluate_all(
        "all => all.map(o => o.dataset)"
    )
    names = [dataset["failure"] for dataset in shown]
    assert names == ["missing", "replayed", "invented", "disaster"]
    press(page, "The same ticket twice")
    page.get_by_role("dialog").get_by_role("button", name="solve").click()
    assert verdict(page, 2)[0] == "403 · ticket_reused"
