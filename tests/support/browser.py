"""A real Chromium, driven by Playwright, whose pages record errors."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
SCRIPT = (Path(__file__).parent / "tencent_script.js").read_text()
TENCENT = "https://*.captcha.qcloud.com/**"

_NOTE = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


# Per module, not per session: Playwright keeps an event loop running in this thread, and the
# tests of other modules start their own loops.
@pytest.fixture(scope="module")
def browser():
    binary = next(filter(None, map(shutil.which, NAMES)), None)
    if binary is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Pages return from the back-forward cache, as for users.
        without = ["--disable-back-forward-cache"]
        running = playwright.chromium.launch(
            executable_path=binary, ignore_default_args=without
        )
        yield running
        running.close()


@pytest.fixture
def context(browser):
    """A fresh context in which Tencent's script is replaced by tencent_script.js."""
    context = browser.new_context()
    context.set_default_timeout(10_000)
    context.add_init_script(_NOTE)
    context.route(TENCENT, serve_script)
    yield context
    context.close()


@pytest.fixture
def page(context):
    """A page; an uncaught exception in its scripts fails the test."""
    page, thrown = context.new_page(), []
    page.on("pageerror", lambda error: thrown.append(error))  # noqa: PLW0108  Playwright marks it
    yield page
    assert thrown == []


def serve_script(route: Any) -> None:
    route.fulfill(body=SCRIPT, content_type="text/javascript")
