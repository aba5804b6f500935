"""<tcaptcha-button> and forms as React, Lit and Angular render them, and Turbo's visits."""

from __future__ import annotations

import pytest
from browser import browser, context, page

pytestmark = pytest.mark.outside

LOGIN = ("POST", "/login", "ada")
FRAMEWORKS = ["angular", "lit", "react"]
every_framework = pytest.mark.parametrize("name", FRAMEWORKS)


@pytest.fixture
def opened(visit, page):
    errors = []

    def note(message):
        if message.type == "error":
            errors.append(message.text)

    page.on("console", note)

    def opened(name, plan=None):
        visit(f"elements-{name}", plan)
        page.get_by_role("button", name="Log in").wait_for()
        return page

    yield opened
    assert errors == []


def update(page, **state):
    page.evaluate("(state) => void update(state)", state)


def solve(page):
    with page.expect_response("**/welcome?user=ada"):
        page.get_by_role("button", name="solve").click()


def native(page):
    return page.locator("tcaptcha-button button")


@every_framework
def test_the_button_follows_each_rendering_of_its_framework(opened, served, name):
    page = opened(name)
    for count in (1, 2, 1, 3, 0):
        update(page, count=count)
        text = f"Bold Send {count}" if count > 1 else f"Send {count}"
        native(page).get_by_text(f"Send {count}").wait_for()
        found = native(page).text_content().split()
        assert (" ".join(found), native(page).get_attribute("value")) == (text, str(count))
    assert page.locator("tcaptcha-button").count() == native(page).count() == 1
    native(page).click()
    solve(page)
    assert served.handled == [LOGIN]


@every_framework
def test_the_button_has_the_state_and_the_name_that_its_framework_gives_it(opened, name):
    page = opened(name)
    for disabled, label in ((True, "Please wait"), (False, "Log in again"), (True, "Off")):
        update(page, disabled=disabled, label=label)
        button = page.get_by_role("button", name=label, exact=True)
        button.wait_for()
        assert button.is_disabled() is disabled


@every_framework
def test_a_rendering_while_the_challenge_is_open_loses_nothing(opened, served, name):
    page = opened(name)
    native(page).click()
    page.get_by_role("button", name="solve").wait_for()
    update(page, count=2, disabled=True, label="Please wait")
    native(page).get_by_text("Send 2").wait_for()
    solve(page)
    assert served.handled == [LOGIN]


@every_framework
def test_a_form_that_is_made_again_while_the_challenge_is_open_is_sent(opened, served, name):
    page = opened(name)
    form = page.locator("form", has=page.locator("tcaptcha-button")).element_handle()
    native(page).click()
    page.get_by_role("button", name="solve").wait_for()
    update(page, key=1)
    page.wait_for_function("(form) => !form.isConnected", arg=form)
    solve(page)
    assert served.handled == [LOGIN]


def test_a_form_that_lit_renders_in_a_shadow_root_is_sent_with_its_ticket(opened, served):
    page = opened("lit")
    page.get_by_role("button", name="Enter").click()
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("document.querySelector('test-marked').count = 2")
    solve(page)
    assert served.handled == [LOGIN]


def test_a_visit_of_turbo_during_a_challenge_does_not_block_the_next(visit, served):
    page = visit("turbo", None)
    page.locator("[name=user]").fill("ada")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("window.same = true; Turbo.visit('/turbo.html?again')")
    page.wait_for_url("**/turbo.html?again")
    page.get_by_role("button", name="solve").wait_for(state="detached")
    page.locator("[name=user]").fill("ada")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="solve").click()
    page.get_by_text("Hello ada").wait_for()
    assert served.handled == [LOGIN]
    assert page.evaluate("[same, tencent.made.length, tencent.most]") == [True, 2, 1]
