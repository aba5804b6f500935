"""The examples that have a page, in Chromium: a visitor solves the emulator's captcha."""

from __future__ import annotations

import json

import pytest
from browser import browser, context, page
from example_servers import EXAMPLES, commands, environment, free_port, running

from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.environment import variables

pytestmark = pytest.mark.outside

WITH_FORM = [
    command
    for file in sorted(EXAMPLES.glob("*_app.py"))
    if "<form data-tcaptcha" in file.read_text()
    for command in commands(file.name)
]


@pytest.fixture
def emulator():
    return TencentEmulator()


@pytest.fixture
def origin(command, emulator, tmp_path):
    with emulator.serve() as endpoint:
        environ = environment(HOME=str(tmp_path), **variables(emulator, endpoint))
        with running(command, free_port(), tmp_path / "log", environ) as client:
            assert client is not None, (tmp_path / "log").read_text()
            yield str(client.base_url)
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_the_examples_with_a_form_are_driven():
    assert {command.split()[1].partition(":")[0] for command in WITH_FORM} == {
        "django_settings_app",
        "page_app",
        "starlette_marked_app",
    }


def solve(page):
    page.get_by_role("dialog").get_by_role("button", name="Solve").click()


@pytest.mark.parametrize("command", WITH_FORM)
def test_a_visitor_solves_the_captcha_of_the_form(page, origin, emulator):
    page.goto(origin)
    page.locator("input[name=user]").fill("Ada")
    page.get_by_role("button", name="Log in").click()
    solve(page)
    page.wait_for_url("**/login")
    assert json.loads(page.inner_text("body")) == {"hello": "Ada", "captchaCode": 1}
    assert len(emulator.calls) == 1


@pytest.mark.parametrize("command", commands("page_app.py"))
def test_a_visitor_of_the_report_solves_the_challenge(page, origin, emulator):
    page.goto(origin)
    page.get_by_role("link", name="The report").click()
    solve(page)
    page.get_by_text("visitors").wait_for()
    assert json.loads(page.inner_text("body")) == {"visitors": 7}
    assert len(emulator.calls) == 1
