"""Logins of Django in a browser, below a Content-Security-Policy with a nonce."""

from __future__ import annotations

import django
import pytest
from browser import browser, context, page
from served import serving

from tcaptcha_middleware.languages import NOSCRIPT

pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "log"
    with serving("gunicorn", "django_admin_site", log) as served:
        yield f"http://127.0.0.1:{served.port}"


def test_an_administrator_solves_a_captcha_to_log_in(page, origin):
    page.goto(f"{origin}/admin/login/?next=/done")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("guess")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="solve").click()
    page.get_by_text("Please enter the correct username").wait_for()
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    blocked = page.evaluate("violations.join(' ')")
    page.get_by_role("button", name="solve").click()
    page.get_by_text("ada 2").wait_for()
    assert "tcaptcha" not in blocked
    assert "theme.js" in blocked or django.VERSION < (6,)


def test_a_refused_form_shows_why_and_keeps_what_was_typed(page, origin):
    page.goto(f"{origin}/login")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="solve").click()
    page.locator(".errorlist.nonfield").get_by_text("The captcha is too old.").wait_for()
    assert page.url == f"{origin}/login"
    assert page.get_by_label("Username").input_value() == "ada"
    # Django's own field does not show a password again.
    page.get_by_label("Password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="solve").click()
    page.wait_for_url(f"{origin}/done")
    page.get_by_text("ada").wait_for()


def test_without_scripts_the_login_of_the_admin_says_what_is_needed(browser, origin):
    with browser.new_context(java_script_enabled=False, locale="zh-TW") as context:
        page = context.new_page()
        page.goto(f"{origin}/admin/login/")
        # Playwright finds no texts in this element.
        notice = page.locator("noscript p[lang=zh-tw]")
        assert notice.is_visible()
        assert notice.inner_text() == NOSCRIPT["zh-tw"]


def test_with_scripts_the_login_of_the_admin_does_not_say_it(page, origin):
    page.goto(f"{origin}/admin/login/")
    assert "Username" in page.locator("body").inner_text()
    assert NOSCRIPT["en"] not in page.locator("body").inner_text()
    assert NOSCRIPT["en"] in page.content()
