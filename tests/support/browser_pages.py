"""Pages with tcaptcha.js, on the site of browser_site: what the tests of the module open."""

from __future__ import annotations

import pytest
from browser_site import site_served

SOLVES, CLOSES = '{ always: "solve" }', '{ always: "close" }'

MODULE = """
<script type="module" nonce="n0nce">
  import captcha, { CaptchaError, TCaptcha, messages } from "/tcaptcha/tcaptcha.js";
  Object.assign(window, { captcha, CaptchaError, TCaptcha, messages });
  window.failure = (work) => work.then(
    (value) => ({ value }), ({ code, name }) => ({ code, name }));
  window.post = (path, init) => captcha.fetch(path, { method: "POST", ...init });
  window.read = async (answer) => [answer.status, await answer.json()];
</script>
"""


@pytest.fixture(scope="module")
def served():
    with site_served() as site:
        yield site


@pytest.fixture
def site(served):
    served.reset()
    return served


@pytest.fixture
def visit(page, site):
    """Open a page of the site; `tencent` is what its double of the script starts with."""

    def visit(body="", *, tencent=None, lang="en", csp=""):
        html = f'<!doctype html><html lang="{lang}"><title>t</title>{body}{MODULE}'
        headers = {"Content-Security-Policy": csp} if csp else {}
        site.page = html, headers
        if tencent:
            page.add_init_script(f"window.tencent = {tencent}")
        page.goto(site.origin)
        return page

    return visit
