"""Several copies of tcaptcha.js on one page do not interfere, and one needs no page at all."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from browser_pages import SOLVES, served, site, visit
from browser_site import BROWSER

pytestmark = pytest.mark.outside

FORMS = """
<form data-tcaptcha action="/login" method="post"><button>Form</button></form>
<form action="/login/b" method="post"><tcaptcha-button>Button</tcaptcha-button></form>
"""
COPIES = ["/tcaptcha/tcaptcha.js?v=2", "/shop/tcaptcha/tcaptcha.js"]


@pytest.fixture(autouse=True)
def second_mount(context):
    text = (BROWSER / "tcaptcha.js").read_text()
    context.route(
        "**/shop/tcaptcha/tcaptcha.js",
        lambda route: route.fulfill(body=text, content_type="text/javascript"),
    )


def load(page, address):
    page.evaluate("async (address) => { window.copy = await import(address) }", address)


@pytest.mark.parametrize("name", ["Form", "Button"])
def test_one_submission_is_one_challenge_and_one_request(visit, site, name):
    page = visit(FORMS, tencent=SOLVES)
    for address in COPIES:
        load(page, address)
    with page.expect_navigation():
        page.get_by_role("button", name=name).click()
    # One request for the settings prepares, and one shows the challenge.
    assert (len(site.asked), len(site.handled)) == (2, 1)
    assert site.handled[0]["form"]["ticket"].startswith("tr03")


@pytest.mark.parametrize("address", COPIES)
def test_copies_share_queue_script_and_messages(visit, page, address):
    settings = '{"appId": "2", "site": "cn", "script": "https://turing.captcha.qcloud.com/TJCaptcha.js"}'
    page.route("**/shop/tcaptcha/settings.json*", lambda route: route.fulfill(body=settings))
    visit(tencent=SOLVES)
    load(page, address)
    page.evaluate("Promise.all([captcha, copy.default, captcha].map((it) => it.solve()))")
    assert page.evaluate("[tencent.made.length, tencent.most, tencent.loads]") == [3, 1, 1]
    # Each has its own settings.
    second = "2" if "shop" in address else "190000000"
    assert page.evaluate("tencent.made.map((it) => it.appId).sort()") == sorted(
        ["190000000", second, "190000000"]
    )
    assert page.evaluate("messages === copy.messages")


def test_an_error_of_one_copy_is_one_of_the_other(visit, page):
    visit(FORMS, tencent='{ always: "close" }')
    load(page, COPIES[0])
    page.evaluate("""void (window.heard = new Promise((done) => addEventListener(
        'tcaptcha-error', ({ detail }) => done([detail instanceof copy.CaptchaError,
            detail instanceof CaptchaError, new Error() instanceof CaptchaError]))))""")
    page.get_by_role("button", name="Form").click()
    assert page.evaluate("heard") == [True, True, False]


def test_without_a_document_it_can_be_imported(visit, page):
    visit()
    worker = """
        import captcha, { CaptchaError, TCaptcha, messages } from "ORIGIN/tcaptcha/tcaptcha.js";
        const { status } = await captcha.fetch("ORIGIN/free");
        postMessage([typeof document, status, messages.busy ?? null, new TCaptcha().options]);
    """
    found = page.evaluate(
        """(text) => new Promise((done) => {
            const script = text.replaceAll('ORIGIN', origin);
            const options = { type: 'text/javascript' };
            const address = URL.createObjectURL(new Blob([script], options));
            const worker = new Worker(address, { type: 'module' });
            worker.onmessage = ({ data }) => done(data);
            worker.onerror = ({ message }) => done(message) })""",
        worker,
    )
    assert found == ["undefined", 200, None, {}]
