"""Libraries with their own deadlines or retries, while a challenge is open or closed."""

from __future__ import annotations

import pytest
from browser import browser, context, page

pytestmark = pytest.mark.outside

LOGIN, REPORT = ("POST", "/login", "ada"), ("GET", "/report", "")
BODY = "new URLSearchParams({ user: 'ada' })"
# Long enough for the challenge to be shown, and over before it is solved.
DEADLINE = 3000
CLIENTS = {
    "axios": (f"recipe.api.post('/login', {BODY}, {{ timeout: %s }})", "AxiosError"),
    "ky": (f"recipe.api.post('login', {{ body: {BODY}, timeout: %s }})", "TimeoutError"),
}


def solve(page):
    page.get_by_role("button", name="solve").click()


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_whose_time_is_over_leaves_the_challenge_to_the_next_try(visit, served, name):
    page = visit(name, None)
    call, error = CLIENTS[name]
    page.evaluate(f"void (window.first = {call % DEADLINE}.catch(({{ name }}) => name))")
    page.get_by_role("button", name="solve").wait_for()
    assert page.evaluate("first") == error
    page.wait_for_timeout(500)
    solve(page)
    with page.expect_response("**/welcome?user=ada"):
        page.evaluate(f"void {call % 'false' if name == 'ky' else call % 0}")
    assert served.handled == [LOGIN]
    assert page.evaluate("tencent.made.length") == 1


def test_htmx_whose_time_is_over_leaves_the_challenge_to_the_next_try(visit, served):
    page = visit("htmx", None)
    page.evaluate(f"htmx.config.defaultTimeout = {DEADLINE}")
    page.evaluate(
        "void (window.failed = new Promise((done) => addEventListener('htmx:error', done)))"
    )
    page.get_by_text("Report").click()
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("failed.then(() => true)")
    solve(page)
    page.get_by_text("Report").click()
    page.get_by_text("Figures").wait_for()
    assert served.handled == [REPORT]
    assert page.evaluate("tencent.made.length") == 1


def test_the_time_of_htmx_2_begins_after_the_challenge(visit, served):
    page = visit("htmx2", None)
    report = page.get_by_text("Report")
    report.evaluate("""(it) => it.setAttribute("hx-request", '{"timeout": 1000}')""")
    report.click()
    page.get_by_role("button", name="solve").wait_for()
    page.wait_for_timeout(1500)
    solve(page)
    page.get_by_text("Figures").wait_for()
    assert served.handled == [REPORT]


# How many requests each library sends that is refused. SWR does not give up.
TRIES = {"query": 4, "swr": 3}


@pytest.mark.parametrize("name", TRIES)
def test_retries_show_no_challenge_again_after_the_user_closed_it(visit, page, served, name):
    asked = []
    page.on("request", lambda request: asked.append(request.url.endswith("/report")))
    page.clock.install()
    visit(f"defaults-{name}", None)
    page.get_by_role("button", name="close").click()
    for _ in range(60):
        if sum(asked) >= TRIES[name]:
            break
        page.clock.fast_forward(2000)
        page.wait_for_timeout(100)
    page.get_by_text("Forbidden").wait_for()
    page.evaluate("['visibilitychange', 'focus'].map((type) => dispatchEvent(new Event(type)))")
    page.wait_for_timeout(300)
    assert sum(asked) >= TRIES[name]
    assert (served.handled, page.evaluate("tencent.made.length")) == ([], 1)


@pytest.mark.parametrize("name", TRIES)
def test_a_query_that_the_user_solves_is_answered(visit, page, served, name):
    visit(f"defaults-{name}", None)
    solve(page)
    page.get_by_text("Figures").wait_for()
    assert served.handled == [REPORT]
    assert page.evaluate("tencent.made.length") == 1
