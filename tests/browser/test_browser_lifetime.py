"""How long a challenge stays: what leaves the page, or never shows, does not block the next."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from browser_pages import SOLVES, served, site, visit

pytestmark = pytest.mark.outside

FORM = '<form id="a" data-tcaptcha action="/login" method="post"><button>Go</button></form>'
REWRITES = {
    "innerHTML": "document.body.innerHTML = '<main>other</main>'",
    "a new body": "document.body = document.createElement('body')",
    "the body's children": "document.body.replaceChildren()",
    "a morph": "for (const it of [...document.body.children]) if (!it.id) it.remove()",
    "the challenge alone": "document.querySelector('[role=dialog]').remove()",
}


def shown(page):
    page.get_by_role("button", name="solve").wait_for()


@pytest.mark.parametrize("site_name", ["cn", "intl"])
@pytest.mark.parametrize("rewrite", REWRITES)
def test_a_challenge_that_is_removed_is_closed_and_the_next_shows(
    visit, site, rewrite, site_name
):
    site.settings["site"] = site_name
    page = visit("<p>page</p>")
    page.evaluate("void (window.first = post('/login').then(read))")
    shown(page)
    page.evaluate("void (window.queued = post('/login/b').then(read))")
    page.evaluate(REWRITES[rewrite])
    status, problem = page.evaluate("first")
    assert (status, problem["code"]) == (403, "ticket_missing")
    page.get_by_role("button", name="solve").click()
    assert page.evaluate("queued.then(([status]) => status)") == 200
    page.evaluate("tencent.always = 'solve'")
    assert page.evaluate("post('/login').then(read)")[0] == 200
    assert page.evaluate("[tencent.open, tencent.most]") == [0, 1]


def test_a_form_works_again_after_its_page_was_rewritten(visit, site):
    page = visit(FORM)
    page.get_by_role("button", name="Go").click()
    shown(page)
    page.evaluate("(html) => { document.body.innerHTML = html }", FORM)
    page.get_by_role("button", name="Go").click()
    page.get_by_role("button", name="solve").click()
    page.wait_for_url("**/login")
    assert len(site.handled) == 1


def test_an_element_within_a_shadow_root_may_be_removed_too(visit, page):
    visit('<div id="host"></div>')
    page.evaluate("""() => {
        const root = host.attachShadow({ mode: 'open' });
        root.innerHTML = '<div id=place></div>';
        const embed = root.getElementById('place');
        window.first = failure(captcha.solve({ embed })) }""")
    shown(page)
    page.evaluate("host.shadowRoot.innerHTML = ''")
    assert page.evaluate("first")["code"] == "closed"


@pytest.mark.parametrize("kind", ["nothing", "loading"])
def test_a_script_that_shows_nothing_is_closed_after_15_seconds(visit, page, kind):
    page.clock.install()
    visit(tencent=f'{{ answers: ["{kind}"], always: "solve" }}')
    page.evaluate("""void (window.first = failure(captcha.solve()).then((end) => (over = end)),
        window.over = null, window.second = captcha.solve())""")
    page.wait_for_function("window.tencent.open === 1")
    # The page's clock goes on while the test runs, so there is time to spare.
    page.clock.run_for(9_000)
    assert page.evaluate("over") is None
    page.clock.run_for(7_000)
    assert page.evaluate("first")["code"] == "closed"
    assert page.evaluate("second.then((pair) => pair.ticket.slice(0, 4))") == "tr03"


MESSAGE = "void (window.first = captcha.solve().catch((error) => error.message))"


def test_the_error_says_that_a_challenge_was_removed(visit):
    page = visit()
    page.evaluate(MESSAGE)
    shown(page)
    # By now the module has seen it, too, which looks every 250 ms.
    page.evaluate("new Promise((done) => setTimeout(done, 500))")
    page.evaluate(REWRITES["the challenge alone"])
    assert page.evaluate("first") == "The captcha left the page"


def test_the_error_says_that_a_challenge_never_showed(visit, page):
    page.clock.install()
    visit(tencent='{ always: "nothing" }')
    page.evaluate(MESSAGE)
    page.wait_for_function("window.tencent.open === 1")
    page.clock.run_for(16_000)
    assert page.evaluate("first") == "The captcha did not show"


@pytest.mark.parametrize("style", ["opacity:0", "visibility:hidden"])
def test_a_dialog_that_cannot_be_seen_is_closed_after_15_seconds(visit, page, style):
    page.clock.install()
    visit(tencent='{ answers: ["nothing"], always: "solve" }')
    page.evaluate("""void (window.first = failure(captcha.solve()).then((end) => (over = end)),
        window.over = null, window.second = captcha.solve())""")
    page.wait_for_function("window.tencent.open === 1")
    page.evaluate(
        """(style) => {
        const dialog = document.createElement('div');
        dialog.setAttribute('role', 'dialog');
        dialog.setAttribute('style', style);
        dialog.innerHTML = '<button>unseen</button>';
        document.body.append(dialog) }""",
        style,
    )
    # It has a size, as what can be seen.
    size = "document.querySelector('[role=dialog]').getBoundingClientRect().height"
    assert page.evaluate(size) > 0
    page.clock.run_for(9_000)
    assert page.evaluate("over") is None
    page.clock.run_for(7_000)
    page.wait_for_function("over !== null")
    assert page.evaluate("first")["code"] == "closed"
    assert page.evaluate("second.then((pair) => pair.ticket.slice(0, 4))") == "tr03"


@pytest.mark.parametrize("where", ["body", "far outside", "shadow", "nested"])
def test_a_frame_that_shows_later_stays_as_long_as_the_user_thinks(visit, page, where):
    page.clock.install()
    visit('<div id="app"></div>', tencent='{ always: "nothing" }')
    page.evaluate("void (window.first = failure(captcha.solve()))")
    page.wait_for_function("window.tencent.open === 1")
    page.evaluate(
        """(where) => {
        const frame = document.createElement('iframe'), box = document.createElement('div');
        box.id = 'box';
        if (where === 'far outside') box.style = 'position: fixed; left: -1000000px';
        const root = where === 'shadow' ? box.attachShadow({ mode: 'open' }) : box;
        root.append(frame);
        (where === 'nested' ? app : document.body).append(box) }""",
        where,
    )
    if where == "far outside":
        page.clock.run_for(9_000)
        page.evaluate("box.style = ''")
    page.clock.run_for(60_000)
    page.evaluate("window.over = null; void first.then((end) => (over = end))")
    assert page.evaluate("over") is None
    # A frame may be replaced by the next one, but not for long.
    page.evaluate("box.remove()")
    page.clock.run_for(250)
    assert page.evaluate("over") is None
    page.clock.run_for(2_500)
    assert page.evaluate("first")["code"] == "closed"


def test_nothing_is_left_in_the_page(visit, page):
    visit(tencent=SOLVES)
    before = page.evaluate("document.body.childElementCount")
    page.evaluate("captcha.solve()")
    assert page.evaluate("document.body.childElementCount") == before
