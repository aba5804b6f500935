"""Forms and buttons that frameworks render: again, in shadow roots, and while one solves."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from browser_pages import SOLVES, served, site, visit

pytestmark = pytest.mark.outside

FORM = """<form data-tcaptcha action="/login" method="post">
  <input type="hidden" name="row" value="1"><input name="name" value="ada">
  <button name="go" value="1">Go</button></form>"""
BUTTON = '<form action="/login" method="post"><tcaptcha-button>Go</tcaptcha-button></form>'


def press(page, name="Go"):
    page.get_by_role("button", name=name, exact=True).click()


def solve(page):
    with page.expect_navigation():
        page.get_by_role("button", name="solve").click()


# -- The element ------


# What React, Angular and Vue do with the nodes that they have made.
RENDERINGS = {
    "text data": "host.firstChild.data = 'Send'",
    "textContent": "host.textContent = 'Send'",
    "replaced": "host.replaceChild(document.createTextNode('Send'), host.firstChild)",
    "removed and added": """host.removeChild(host.firstChild);
        host.appendChild(document.createTextNode('Send'))""",
    "inserted": """const icon = document.createElement('i');
        host.insertBefore(icon, host.firstChild); host.lastChild; icon.append('Send');
        host.removeChild(icon.nextSibling)""",
    "moved": """const form = host.parentNode; host.remove(); host.textContent = 'Send';
        form.append(host)""",
    "cloned": """host.firstChild.data = 'Send';
        setTimeout(() => host.replaceWith(host.cloneNode(true)))""",
}


@pytest.mark.parametrize("rendering", RENDERINGS)
def test_a_button_survives_being_rendered_again(visit, site, rendering):
    page = visit(BUTTON, tencent=SOLVES)
    page.get_by_role("button", name="Go").wait_for()
    host = page.locator("tcaptcha-button")
    host.evaluate(f"(host) => {{ {RENDERINGS[rendering]} }}")
    page.get_by_role("button", name="Send", exact=True).wait_for()
    assert page.get_by_role("button").count() == 1
    with page.expect_navigation():
        press(page, "Send")
    assert len(site.handled) == 1


def test_the_button_keeps_focus_when_its_label_changes(visit):
    page = visit(BUTTON)
    page.get_by_role("button").focus()
    page.evaluate("document.querySelector('tcaptcha-button').firstChild.data = 'Send'")
    page.get_by_role("button", name="Send").wait_for()
    assert page.evaluate("document.activeElement.localName") == "button"


def test_a_button_passes_its_attributes_on(visit, site):
    page = visit(
        """<form action="/other" method="post"><tcaptcha-button name="go" value="1" disabled
        formaction="/login" aria-label="Log in" aria-describedby="d">Go</tcaptcha-button>
        <p id="d">Described</p></form>""",
        tencent=SOLVES,
    )
    button = page.get_by_role("button", name="Log in")
    assert button.is_disabled()
    assert button.get_attribute("aria-describedby") == "d"
    host = page.locator("tcaptcha-button")
    # React 18, Angular, React 19 and Vue.
    for enable, disable in [
        ("it.setAttribute('disabled', 'false')", "it.setAttribute('disabled', 'true')"),
        ("it.disabled = false", "it.disabled = true"),
        ("it.removeAttribute('disabled')", "it.setAttribute('disabled', '')"),
    ]:
        for script, is_disabled in ((enable, False), (disable, True)):
            host.evaluate(f"(it) => {{ {script} }}")
            assert (button.is_disabled(), host.evaluate("it => it.disabled")) == (
                is_disabled,
                is_disabled,
            )
    host.evaluate("it => { it.disabled = false; it.setAttribute('aria-label', 'Enter') }")
    with page.expect_navigation():
        press(page, "Enter")
    (handled,) = site.handled
    assert (handled["path"], handled["form"]["go"]) == ("/login", "1")


def test_a_button_of_the_applications_own_is_left_as_it_is(visit, site):
    page = visit(
        """<form action="/login" method="post"><tcaptcha-button><button name="go" value="1"
        >Go</button></tcaptcha-button></form>""",
        tencent=SOLVES,
    )
    host = page.locator("tcaptcha-button")
    assert host.evaluate("it => it.children.length") == 1
    host.evaluate("it => it.replaceChildren(...[it.firstChild.cloneNode(true)])")
    with page.expect_navigation():
        press(page)
    assert site.handled[0]["form"]["go"] == "1"


def test_enter_in_a_field_presses_the_button(visit, site):
    page = visit(
        """<form action="/login" method="post"><input name="a"><input name="b">
        <tcaptcha-button name="go" value="1">Go</tcaptcha-button></form>""",
        tencent=SOLVES,
    )
    page.locator("[name=a]").focus()
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert site.handled[0]["form"]["go"] == "1"


@pytest.mark.parametrize(
    "button",
    [
        '<tcaptcha-button form="f">Go</tcaptcha-button>',
        '<tcaptcha-button><button form="f">Go</button></tcaptcha-button>',
        '<form action="/"><tcaptcha-button form="f">Go</tcaptcha-button></form>',
    ],
)
def test_a_button_outside_its_form_is_prepared_for_that_form(visit, site, button):
    page = visit(f'<form id="f" action="/login" method="post"></form>{button}')
    page.get_by_role("button", name="Go").focus()
    page.wait_for_function("() => window.tencent?.loads === 1")
    assert site.asked == ["POST /login"]


def test_a_form_is_prepared_for_itself_if_its_first_button_is_of_another_form(visit, site):
    other = '<form id="out" action="/logout" method="post"></form>'
    page = visit(other + FORM.replace("<input", '<button form="out">Out</button><input', 1))
    page.get_by_role("button", name="Go").focus()
    page.wait_for_function("() => window.tencent?.loads === 1")
    assert site.asked == ["POST /login"]


def test_a_button_without_a_form_breaks_nothing(visit, site):
    page = visit("<tcaptcha-button>Go</tcaptcha-button>")
    page.get_by_role("button", name="Go").click()
    page.locator("tcaptcha-button [role=status]").wait_for(state="attached")
    assert site.asked == []


# -- Shadow roots ------


@pytest.mark.parametrize("form", [FORM, BUTTON], ids=["form", "button"])
@pytest.mark.parametrize(
    ("how", "nested"),
    [("click", False), ("Enter", True), ("script", False), ("script", True)],
)
def test_a_form_within_a_shadow_root_is_solved_for(visit, site, form, how, nested):
    page = visit('<div id="host"></div>')
    page.evaluate(
        """([form, nested]) => {
        let root = host.attachShadow({ mode: 'open' });
        if (nested) {
            const inner = root.appendChild(document.createElement('div'));
            root = inner.attachShadow({ mode: 'open' });
        }
        root.innerHTML = form + '<div></div>';
        window.inside = root;
        window.heard = [];
        document.addEventListener('tcaptcha-error', () => heard.push('error')) }""",
        [form, nested],
    )
    button = page.get_by_role("button", name="Go", exact=True)
    button.focus()
    if how == "click":
        button.click()
    elif how == "Enter":
        page.keyboard.press("Enter")
    else:
        page.evaluate(
            "inside.querySelector('form').requestSubmit(inside.querySelector('button'))"
        )
    page.get_by_role("button", name="close").click()
    page.locator("[data-tcaptcha-state=closed]").wait_for()
    # The focus is where it was.
    assert page.evaluate("inside.activeElement?.localName") == "button"
    page.wait_for_function("heard.length > 0")
    assert page.evaluate("heard") == ["error"]
    button.click()
    solve(page)
    assert len(site.handled) == 1
    assert site.handled[0]["form"]["ticket"].startswith("tr03")


# -- While the challenge is open ------


def test_a_submit_button_that_is_rendered_again_does_not_lose_the_ticket(visit, site):
    page = visit(FORM)
    press(page)
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("document.querySelector('[name=go]').outerHTML = '<button>Other</button>'")
    solve(page)
    (handled,) = site.handled
    assert (handled["form"]["go"], handled["form"]["ticket"][:4]) == ("1", "tr03")


@pytest.mark.parametrize(
    ("form", "what"),
    [
        (FORM, "document.forms[0].replaceWith(document.forms[0].cloneNode(true))"),
        (FORM, "document.forms[0].outerHTML = form"),
        (BUTTON, "document.forms[0].outerHTML = form"),
        (BUTTON, "document.querySelector('tcaptcha-button').outerHTML = '<button>Go</button>'"),
    ],
)
def test_a_form_that_is_rendered_again_does_not_lose_the_ticket(visit, site, form, what):
    page = visit(f"<main>{form}</main>")
    press(page)
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate(f"(form) => {{ {what} }}", form)
    solve(page)
    (handled,) = site.handled
    assert handled["form"]["ticket"].startswith("tr03")
    if form is FORM:
        assert (handled["form"]["name"], handled["form"]["go"]) == ("ada", "1")


@pytest.mark.parametrize("rest", ["", FORM.replace('value="1"', 'value="2"', 1)])
def test_another_form_is_never_sent_instead(visit, page, site, rest):
    visit(f"<main>{FORM}</main>{rest}")
    page.get_by_role("button", name="Go").first.click()
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("""() => {
        window.heard = new Promise((done) => addEventListener('tcaptcha-error',
            ({ detail }) => done([detail.code, detail.message])));
        document.querySelector('main').remove() }""")
    page.get_by_role("button", name="solve").click()
    code, message = page.evaluate("heard")
    assert (code, "form left the page" in message) == ("closed", True)
    assert site.handled == []
