"""The recipes of docs/front-end-libraries.md, built by Vite and run in Chromium."""

from __future__ import annotations

import pytest
from browser import browser, context, page

pytestmark = pytest.mark.outside

LOGIN, REPORT = ("POST", "/login", "ada"), ("GET", "/report", "")


def log_in(page):
    page.locator("[name=user]").fill("ada")
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("fetch", "recipe.login('ada')"),
        ("axios", "recipe.api.post('/login', new URLSearchParams({ user: 'ada' }))"),
        ("xhr", "recipe.login('ada')"),
        ("jquery", "recipe.login('ada')"),
        ("ky", "recipe.api.post('login', { body: new URLSearchParams({ user: 'ada' }) })"),
    ],
)
def test_a_client_sends_its_request_with_a_ticket(visit, served, name, call):
    page = visit(name)
    with page.expect_response("**/welcome?user=ada"):
        page.evaluate(f"void {call}")
    assert served.handled == [LOGIN]
    assert page.evaluate("tencent.made.length") == 1


def test_axios_rejects_with_the_refusal_if_the_user_closes_the_challenge(visit, served):
    page = visit("axios", "close")
    refused = page.evaluate("recipe.api.post('/login').catch((error) => error.response.status)")
    assert (refused, served.handled) == (403, [])


def test_a_script_uploads_the_form_data_with_its_pair(visit, served):
    page = visit("xhr-form")
    file = {"name": "a.txt", "mimeType": "text/plain", "buffer": b"text"}
    page.locator("[name=file]").set_input_files(file)
    with page.expect_response("**/upload") as answer:
        page.get_by_role("button", name="Send").click()
    assert answer.value.status == 200
    assert served.handled == [("POST", "/upload", "text")]


@pytest.mark.parametrize("name", ["turbo", "htmx", "htmx2", "unpoly", "alpine", "angular"])
def test_a_form_is_sent_with_its_ticket_and_its_answer_shown(visit, served, name):
    page = visit(name)
    page.evaluate("window.same = true")
    log_in(page)
    page.get_by_text("Hello ada").wait_for()
    assert served.handled == [LOGIN]
    assert page.evaluate("[same, tencent.made.length]") == [True, 1]


@pytest.mark.parametrize("name", ["turbo", "htmx", "htmx2", "alpine", "angular"])
def test_a_protected_page_is_shown_within_the_page_after_the_challenge(visit, served, name):
    page = visit(name)
    page.evaluate("window.same = true")
    page.get_by_text("Report").hover()
    page.wait_for_timeout(300)  # Turbo loads a link 100 ms after the mouse has reached it
    assert not page.evaluate("tencent.made?.length")
    page.get_by_text("Report").click()
    page.get_by_text("Figures").wait_for()
    assert served.handled == [REPORT]
    assert page.evaluate("[same, tencent.made.length]") == [True, 1]


def test_unpoly_loads_a_protected_page_in_full(visit, served):
    page = visit("unpoly")
    page.get_by_text("Report").click()
    page.get_by_text("Figures").wait_for()
    assert served.handled == [REPORT]


@pytest.mark.parametrize("name", ["query", "swr"])
def test_a_query_of_react_solves_one_challenge(visit, served, name):
    page = visit(name)
    page.get_by_text("Figures").wait_for()
    assert served.handled == [REPORT]
    assert page.evaluate("tencent.made.length") == 1


@pytest.mark.parametrize("name", ["query", "swr"])
def test_a_query_shows_no_challenge_again_after_the_user_closed_it(visit, served, name):
    page = visit(name, "close")
    page.wait_for_function("tencent.made?.length === 1 && tencent.open === 0")
    page.mouse.click(5, 5)  # after an input, captcha.fetch would show it again
    page.wait_for_timeout(1500)  # React Query retries after a second
    assert (served.handled, page.evaluate("tencent.made.length")) == ([], 1)


@pytest.mark.parametrize("name", ["query", "swr"])
def test_a_query_shows_no_challenge_if_the_user_returns_to_the_window(visit, served, name):
    page = visit(name)
    page.get_by_text("Figures").wait_for()
    page.evaluate("['visibilitychange', 'focus'].map((type) => dispatchEvent(new Event(type)))")
    page.wait_for_timeout(300)
    assert (served.handled, page.evaluate("tencent.made.length")) == ([REPORT], 1)


def test_a_closed_challenge_is_no_uncaught_error_with_htmx(visit, served):
    page = visit("htmx2", "close")
    with page.expect_console_message():
        page.get_by_text("Report").click()
    assert served.handled == []


def test_angular_disables_the_button(visit):
    page = visit("angular")
    assert page.get_by_role("button", name="Delete").is_disabled()


def test_an_import_without_names_is_kept_and_says_where_the_settings_are_missing(visit):
    page = visit("bare")
    with page.expect_console_message(lambda message: "CaptchaError" in message.text) as message:
        log_in(page)
    assert "/assets/settings.json" in message.value.text


def test_a_mutation_of_react_query_sends_its_request_with_a_ticket(visit, served):
    page = visit("query")
    page.get_by_text("Figures").wait_for()
    with page.expect_response("**/welcome?user=ada"):
        page.get_by_role("button", name="Log in").click()
    assert served.handled == [REPORT, LOGIN]


def test_an_action_of_react_has_the_pair_in_its_form_data(visit, served):
    page = visit("react")
    log_in(page)
    page.get_by_text("Welcome").wait_for()
    assert served.handled == [LOGIN]


def test_inertia_sends_its_requests_with_a_ticket(visit, served):
    page = visit("inertia")
    request = "{ method: 'post', url: '/login', data: new URLSearchParams({ user: 'ada' }) }"
    assert "Hello ada" in page.evaluate(f"http.getClient().request({request})")["data"]
    assert served.handled == [LOGIN]


def test_the_script_tag_works_in_a_page_that_vite_builds(visit, served):
    page = visit("tag")
    log_in(page)
    page.get_by_text("Hello ada").wait_for()
    assert served.handled == [LOGIN]


@pytest.mark.parametrize("order", [("tag", "bundle"), ("bundle", "tag")])
def test_a_bundle_beside_the_script_tag_sends_each_form_once(visit, served, order):
    page = visit("beside", None)
    for copy in order:
        if copy == "bundle":
            page.evaluate("load().then(() => true)")
        else:
            page.add_script_tag(url="/tcaptcha/tcaptcha.js", type="module")
    loads = []
    page.on("request", lambda request: loads.append("TJCaptcha" in request.url))
    log_in(page)
    page.get_by_role("button", name="solve").click()
    page.get_by_text("Hello ada").wait_for()
    assert served.handled == [LOGIN]
    assert loads.count(True) == 1


def test_the_import_works_in_a_page_that_vite_builds(page, visit, served):
    with page.expect_response("**/welcome?user=ada"):
        visit("external")
    assert served.handled == [LOGIN]


def test_a_service_worker_leaves_the_captcha_to_the_page(visit, served):
    page = visit("fetch")
    page.evaluate("void navigator.serviceWorker.register('/worker.js')")
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    page.reload(wait_until="networkidle")
    assert (
        page.evaluate(
            "caches.open('assets').then((cache) => cache.keys()).then((keys) => keys.length)"
        )
        > 0
    )
    with page.expect_response("**/welcome?user=ada"):
        page.evaluate("void recipe.login('ada')")
    assert served.handled == [LOGIN]
