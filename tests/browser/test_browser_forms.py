"""Forms as applications write them: names, methods, fields and their own checks."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from browser_pages import SOLVES, served, site, visit
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from tcaptcha_middleware import Guard, TCaptchaMiddleware, sources
from tcaptcha_middleware.languages import MESSAGES
from tcaptcha_middleware.testing import FakeVerifier
from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

HANDLED_BY_SCRIPT = """() => {
  window.sent = [];
  document.addEventListener('submit', (event) => {
    event.preventDefault();
    sent.push(Object.fromEntries(new FormData(event.target, event.submitter)));
  }) }"""


@pytest.fixture
def errors(page):
    texts = []
    page.on("console", lambda said: said.type == "error" and texts.append(said.text))
    return texts


def submit(page, name="Go"):
    page.get_by_role("button", name=name).click()


@pytest.mark.parametrize(
    "form",
    [
        '<form data-tcaptcha="POST /act"><button>Go</button></form>',
        '<form data-tcaptcha="POST /act" action="/a" method="post"><button>Go</button></form>',
        '<form><tcaptcha-button data-tcaptcha="POST /act">Go</tcaptcha-button></form>',
    ],
)
def test_a_form_names_the_request_that_its_script_sends(visit, site, form):
    page = visit(form, tencent=SOLVES)
    page.evaluate(HANDLED_BY_SCRIPT)
    submit(page)
    page.wait_for_function("sent.length === 1")
    assert page.evaluate("sent[0].ticket.slice(0, 4)") == "tr03"
    assert set(site.asked) == {"POST /act"}


def test_an_attribute_as_jsx_writes_it_names_nothing(visit, site):
    form = '<form data-tcaptcha="true" action="/login" method="post"><button>Go</button></form>'
    page = visit(form, tencent=SOLVES)
    with page.expect_navigation():
        submit(page)
    assert set(site.asked) == {"POST /login"}


@pytest.mark.parametrize(
    "form",
    [
        '<form data-tcaptcha action="/login"><button>Go</button></form>',
        '<form data-tcaptcha method="post"><button formmethod="get">Go</button></form>',
        "<form><tcaptcha-button>Go</tcaptcha-button></form>",
    ],
)
def test_a_form_that_uses_get_is_refused_and_the_console_says_why(visit, site, errors, form):
    page = visit(form, tencent=SOLVES)
    page.evaluate("""void (window.heard = new Promise((done) =>
        addEventListener('tcaptcha-error', ({ detail }) => done(detail.message))))""")
    submit(page)
    assert 'method="post"' in page.evaluate("heard")
    assert 'method="post"' in "".join(errors)
    assert page.evaluate("[location.search, window.tencent.made ?? []]") == ["", []]


def test_a_named_form_that_no_script_sends_puts_no_ticket_in_the_address(visit, site, errors):
    page = visit('<form data-tcaptcha="POST /act"><button>Go</button></form>', tencent=SOLVES)
    submit(page)
    page.locator("form[data-tcaptcha-state=solved]").wait_for()
    assert page.evaluate("location.search") == ""
    assert 'method="post"' in "".join(errors)


def test_a_field_called_ticket_stays_beside_the_fields_of_the_page(visit, site):
    site.settings["fields"] = {"ticket": "captcha_ticket", "randstr": "captcha_randstr"}
    page = visit(
        """<form data-tcaptcha action="/free" method="post">
        <input type="hidden" name="ticket" value="T-1"><button>Go</button></form>""",
        tencent=SOLVES,
    )
    with page.expect_navigation():
        submit(page)
    form = site.handled[0]["form"]
    assert (form["ticket"], form["captcha_ticket"][:4]) == ("T-1", "tr03")
    assert form.keys() == {"ticket", "captcha_ticket", "captcha_randstr"}


def test_a_real_gate_reads_its_own_fields_beside_a_field_called_ticket(page):
    received = []

    async def home(request):
        return HTMLResponse("""<!doctype html><title>Form</title>
        <script type="module" src="/tcaptcha/tcaptcha.js"></script>
        <form data-tcaptcha action="/orders" method="post">
        <input type="hidden" name="ticket" value="T-1"><button>Go</button></form>""")

    async def orders(request):
        received.append(dict(await request.form()))
        return PlainTextResponse("inside")

    verifier = FakeVerifier()
    fields = sources.Form("captcha_ticket", "captcha_randstr")
    guard = Guard(["POST /orders"], verifier, sources=[fields], page="/tcaptcha")
    app = Starlette(routes=[Route("/", home), Route("/orders", orders, methods=["POST"])])
    with serving(TCaptchaMiddleware(app, guard)) as origin:
        page.goto(origin)
        page.wait_for_function("() => Boolean(customElements.get('tcaptcha-button'))")
        submit(page)
        page.get_by_role("dialog").get_by_text("solve").click()
        page.get_by_text("inside").wait_for()
    (form,) = received
    (submission,) = verifier.tickets
    assert form == {
        "ticket": "T-1",
        "captcha_ticket": submission.ticket,
        "captcha_randstr": submission.randstr,
    }


NAMES = [
    *("getAttribute", "setAttribute", "hasAttribute", "append", "prepend", "querySelector"),
    *("elements", "dispatchEvent", "isConnected", "getRootNode", "requestSubmit", "children"),
    *("method", "action", "id"),
]


def test_fields_that_hide_the_forms_members_break_nothing(visit, site):
    fields = "".join(f'<input name="{name}" value="{name}">' for name in NAMES)
    page = visit(
        f"""<form data-tcaptcha action="/login" method="post">{fields}
        <button name="go" value="1">Go</button></form>""",
        tencent='{ answers: ["close"], always: "solve" }',
    )
    # Playwright's own locators do not work in such a form.
    click = "document.querySelector('button').click()"
    page.evaluate(click)
    page.wait_for_function("document.querySelector('[data-tcaptcha-state=closed]')")
    with page.expect_navigation():
        page.evaluate(click)
    form = site.handled[0]["form"]
    assert form.keys() == {*NAMES, "ticket", "randstr", "go"}
    assert set(site.asked) == {"POST /login"}


@pytest.mark.parametrize("action", ["http://[", "javascript:throw 1"])
def test_an_action_that_is_not_an_address_breaks_nothing(visit, site, action):
    page = visit(
        f'<form data-tcaptcha action="{action}" method="post"><button>Go</button></form>',
        tencent=SOLVES,
    )
    page.evaluate(HANDLED_BY_SCRIPT)
    submit(page)
    page.wait_for_function("sent.length === 1")
    assert set(site.asked) == {"POST /"}


@pytest.mark.parametrize(
    "disable",
    [
        "addEventListener('click', ({ target }) => setTimeout(() => (target.disabled = true)))",
        "addEventListener('tcaptcha-start', ({ target }) => (target.go.disabled = true))",
    ],
)
def test_a_button_that_is_disabled_on_click_keeps_its_name_and_value(visit, site, disable):
    page = visit(
        """<form data-tcaptcha action="/other" method="post">
        <button name="go" value="1" formaction="/login">Go</button></form>"""
    )
    page.evaluate(f"() => {{ {disable} }}")
    submit(page)
    page.locator("button[disabled]").wait_for()
    with page.expect_navigation():
        page.get_by_role("button", name="solve").click()
    (handled,) = site.handled
    assert (handled["path"], handled["form"]["go"]) == ("/login", "1")


def test_an_applications_own_checks_come_first(visit, site):
    page = visit(
        '<form data-tcaptcha action="/login" method="post"><button>Go</button></form>',
        tencent=SOLVES,
    )
    page.evaluate("""() => {
        window.heard = [];
        addEventListener('tcaptcha-start', (event) => {
            heard.push(event.detail.for);
            if (heard.length === 1) event.preventDefault();
        }) }""")
    submit(page)
    assert page.evaluate("heard") == ["POST /login"]
    assert page.locator("[data-tcaptcha-state]").count() == 0
    assert page.evaluate("tencent.made ?? []") == []
    with page.expect_navigation():
        submit(page)
    assert len(site.handled) == 1


def test_no_text_asks_to_solve_what_is_not_shown_yet(visit, page):
    page.clock.install()
    visit(
        '<form data-tcaptcha action="/login" method="post"><button>Go</button></form>',
        tencent='{ always: "late", late: 5000 }',
    )
    submit(page)
    page.wait_for_function("window.tencent?.open === 1")
    status = page.locator("[role=status]")
    # The page's clock goes on while the test runs, so there is time to spare.
    page.clock.run_for(1_000)
    assert page.locator("form").get_attribute("data-tcaptcha-state") == "loading"
    assert status.text_content().strip() == MESSAGES["en"]["loading"]
    assert page.get_by_role("button", name="Go").get_attribute("aria-busy") == "true"
    page.clock.run_for(5_000)
    assert page.locator("form").get_attribute("data-tcaptcha-state") == "busy"
    assert status.text_content().strip() == MESSAGES["en"]["busy"]
    with page.expect_navigation():
        page.get_by_role("button", name="solve").click()


INLINE = {
    "form": '<form data-tcaptcha action="/login" method="post"><button>Go</button></form>',
    "button": '<form method="post"><tcaptcha-button>Go</tcaptcha-button></form>',
}


@pytest.mark.parametrize("host", INLINE)
def test_there_is_a_gap_between_a_button_and_its_text(visit, host):
    page = visit(INLINE[host], tencent='{ always: "close" }')
    page.get_by_role("button", name="Go").click()
    page.get_by_text("The captcha was closed.").wait_for()
    gap = page.evaluate("""() => {
        const { firstChild } = document.querySelector("[data-tcaptcha-status]");
        const range = document.createRange();
        range.setStart(firstChild, firstChild.data.indexOf("The"));
        range.setEnd(firstChild, firstChild.data.length);
        const { right } = document.querySelector("button").getBoundingClientRect();
        return range.getBoundingClientRect().left - right }""")
    assert gap >= 2
