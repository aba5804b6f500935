"""Links to a protected page that a library follows: the page is loaded in full, and solved."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from npm_project import BROWSER, Site, blocks

from tcaptcha_middleware.testing.emulator._http import serving

pytestmark = pytest.mark.outside

LINK = '<a href="/report?a=1">Report</a>'
# The file of each library, and a link that it follows.
LIBRARIES = {
    "Turbo Drive": ("@hotwired/turbo/dist/turbo.es2017-umd.js", LINK),
    "Turbo Frames": (
        "@hotwired/turbo/dist/turbo.es2017-umd.js",
        f'<turbo-frame id="frame">{LINK}</turbo-frame>',
    ),
    "htmx 4": ("htmx.org/dist/htmx.min.js", f'<p hx-boost:inherited="true">{LINK}</p>'),
    "htmx 2": ("htmx2/dist/htmx.min.js", f'<p hx-boost="true">{LINK}</p>'),
    "Unpoly": ("unpoly/unpoly.min.js", LINK.replace("<a", "<a up-follow")),
}


STRICT = "Turbo Frames in a page that allows no inline scripts"


@pytest.fixture(scope="module")
def served(project):
    title = "The challenge instead of a page"
    ((_, listener),) = blocks(BROWSER, title, "javascript")
    policy = """<meta http-equiv="Content-Security-Policy" content="script-src 'self'">"""
    strict = {STRICT: (policy, *LIBRARIES["Turbo Frames"])}
    pages = {name: ("", *values) for name, values in LIBRARIES.items()} | strict
    for name, (head, file, link) in pages.items():
        script = f"<script>{listener}</script>" if name == "Unpoly" else ""
        (project / f"{name}.html").write_text(
            f"<!doctype html><title>Links</title>{head}"
            f'<script src="/node_modules/{file}"></script><body><main>{link}</main>{script}'
        )
    site = Site(project)
    with serving(site.app) as site.origin:
        yield site


@pytest.mark.parametrize("name", [*LIBRARIES, STRICT])
def test_a_link_to_a_protected_page_shows_the_challenge(page, served, name):
    served.handled.clear()
    page.goto(f"{served.origin}/{name}.html")
    page.get_by_role("link", name="Report").click()
    if name == STRICT:
        page.get_by_role("link", name="Show the captcha").click()
    page.get_by_role("button", name="solve").click()
    page.get_by_text("Figures").wait_for()
    assert page.url == f"{served.origin}/report?a=1"
    assert served.handled == [("GET", "/report", "")]
