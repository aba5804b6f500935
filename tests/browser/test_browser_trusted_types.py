"""Pages that enforce Trusted Types: the module's policy has the name `tcaptcha`."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from browser_pages import SOLVES, served, site, visit

pytestmark = pytest.mark.outside

ENFORCED = "require-trusted-types-for 'script'; trusted-types"
FORM = '<form data-tcaptcha action="/login" method="post"><button>Go</button></form>'


def test_a_form_works_on_a_page_that_enforces_trusted_types(visit, page, site):
    visit(FORM, tencent=SOLVES, csp=f"{ENFORCED} tcaptcha")
    page.get_by_role("button", name="Go").click()
    page.wait_for_url("**/login")
    assert len(site.handled) == 1


def test_copies_share_the_policy_since_its_name_may_be_used_once(visit, page):
    visit(tencent=SOLVES, csp=f"{ENFORCED} tcaptcha")
    page.evaluate("captcha.solve()")
    pair = page.evaluate("""async () => {
        const copy = await import('/tcaptcha/tcaptcha.js?v=2');
        const script = 'https://turing.captcha.qcloud.com/other.js';
        return new copy.TCaptcha({ settings: { appId: 1, site: 'cn', script } }).solve() }""")
    assert pair["ticket"][:4] == "tr03"
    assert page.evaluate("violations") == []


@pytest.mark.parametrize("policy", ["trusted-types other", "trusted-types 'none'"])
def test_a_page_that_does_not_enforce_them_may_allow_other_policies(visit, page, policy):
    visit(tencent=SOLVES, csp=policy)
    assert page.evaluate("captcha.solve()")["ticket"][:4] == "tr03"


def test_a_page_that_allows_other_policies_only_gets_the_browsers_reason(visit, page):
    visit(csp=f"{ENFORCED} other")
    error = page.evaluate("captcha.solve().catch(({ code, cause }) => [code, cause.message])")
    assert error[0] == "load"
    assert "TrustedScriptURL" in error[1]
