"""captcha.fetch behind the libraries that call it, and for every kind of refusal."""

from __future__ import annotations

import pytest
from browser import browser, context, page
from browser_pages import SOLVES, served, site, visit

pytestmark = pytest.mark.outside


@pytest.mark.parametrize(
    "body", ["'a=' + 'b'.repeat(200_000)", "new FormData(document.forms[0])"]
)
def test_a_body_over_the_limit_gets_a_challenge_and_a_pair_in_the_headers(visit, site, body):
    fields = '<textarea name="a"></textarea><textarea name="b"></textarea>'
    page = visit(f"<form>{fields}</form>", tencent=SOLVES)
    page.evaluate(
        "for (const it of document.querySelectorAll('textarea')) it.value = 'b'.repeat(100_000)"
    )
    sent = f"""post('/login', {{ body: {body}, headers: typeof ({body}) === 'string'
        ? {{ 'Content-Type': 'application/x-www-form-urlencoded' }} : {{}} }})"""
    assert page.evaluate(f"{sent}.then((answer) => answer.status)") == 200
    assert [ticket is None for _, ticket in site.attempts] == [True, False]
    assert sum(map(len, site.handled[0]["form"].values())) == 200_000


ENVELOPES = {
    "html": (403, "text/html", "<h1>Forbidden</h1>"),
    "text": (403, "text/plain", "Forbidden"),
    "a turbo stream": (422, "text/vnd.turbo-stream.html", "<turbo-stream></turbo-stream>"),
    "an envelope": (200, "application/json", '{"ok": false}'),
    "nothing": (401, "application/json", ""),
}


@pytest.mark.parametrize("envelope", ENVELOPES)
def test_the_header_reports_a_refusal_in_any_envelope(visit, page, site, envelope):
    visit(tencent=SOLVES)
    status, content_type, body = ENVELOPES[envelope]

    def refuse(route):
        if "x-captcha-ticket" in route.request.headers:
            return route.continue_()
        code = {"Tcaptcha-Code": "ticket_missing"}
        return route.fulfill(status=status, content_type=content_type, body=body, headers=code)

    page.route("**/login", refuse)
    accept = f"{{ headers: {{ Accept: '{content_type}' }} }}"
    assert page.evaluate(f"post('/login', {accept}).then(read)")[0] == 200
    assert site.asked == ["POST /login"]


@pytest.mark.parametrize("accept", ["text/html", "text/plain", "text/vnd.turbo-stream.html"])
def test_a_refusal_of_the_gate_is_recognised_in_each_media_type(visit, site, accept):
    page = visit(tencent=SOLVES)
    headers = f"{{ headers: {{ Accept: '{accept}, text/html' }} }}"
    assert page.evaluate(f"post('/login', {headers}).then(read)")[0] == 200
    assert [ticket is None for _, ticket in site.attempts] == [True, False]


def test_the_header_goes_before_the_body(visit, page, site):
    visit(tencent=SOLVES)
    page.route(
        "**/login",
        lambda route: route.fulfill(
            status=403,
            content_type="application/problem+json",
            body='{"code": "ticket_missing"}',
            headers={"Tcaptcha-Code": "ticket_malformed"},
        ),
    )
    assert page.evaluate("post('/login').then((answer) => answer.status)") == 403
    assert site.asked == []


HANDED_ON = {
    "taken apart": "const { fetch } = captcha; return fetch(url, init)",
    "an option": "const library = { fetch: captcha.fetch }; return library.fetch(url, init)",
    "the page's": "window.fetch = captcha.fetch; return fetch(url, init)",
    "the page's, wrapped": """window.fetch = captcha.fetch;
        const inner = window.fetch;
        window.fetch = async (...all) => (await null, inner(...all));
        return fetch(url, init)""",
    "of two copies": """const copy = await import('/tcaptcha/tcaptcha.js?v=2');
        window.fetch = copy.default.fetch; return captcha.fetch(url, init)""",
    "a stream": """window.fetch = captcha.fetch;
        const body = new Response('b').body;
        return fetch(url, { method: 'POST', body, duplex: 'half' }).catch(
            () => captcha.fetch(url, init))""",
}


@pytest.mark.parametrize("how", HANDED_ON)
def test_it_can_be_handed_on_without_its_object(visit, site, how):
    page = visit(tencent=SOLVES)
    script = f"async (url) => {{ const init = {{ method: 'POST' }}; {HANDED_ON[how]} }}"
    page.evaluate(
        f"(url) => ({script})(url).then((a) => (window.status_ = a.status))", "/login"
    )
    assert page.evaluate("status_") == 200
    assert [ticket is None for _, ticket in site.attempts] == [True, False]


def test_settings_that_are_refused_end_in_an_error(visit, page, site):
    visit(tencent=SOLVES)
    refusal = {"status": 403, "headers": {"Tcaptcha-Code": "ticket_missing"}}
    page.route("**/settings.json*", lambda route: route.fulfill(**refusal))
    page.evaluate("window.fetch = captcha.fetch")
    assert page.evaluate("failure(captcha.solve())")["code"] == "settings"


# -- Libraries with deadlines and retries ------

# What they abort with: AbortSignal.timeout(), axios, htmx, ky and ofetch.
DEADLINES = {
    "a signal": "new DOMException('signal timed out', 'TimeoutError')",
    "htmx": "'timeout'",
    "ky": "",
    "axios": "Object.assign(new Error('timeout of 10ms exceeded'), { name: 'AxiosError' })",
    "ofetch": "Object.assign(new Error('aborted due to timeout'), { name: 'TimeoutError' })",
}
BEGUN = """void (window.control = new AbortController(), window.first = failure(
    post('/login', { body: 'first', signal: control.signal })))"""


@pytest.mark.parametrize("reason", DEADLINES)
def test_a_deadline_leaves_the_challenge_and_its_ticket_serves_the_next(visit, site, reason):
    page = visit()
    page.evaluate(BEGUN)
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate(f"control.abort({DEADLINES[reason]})")
    assert "value" not in page.evaluate("first")
    # Both a retry while it is open, and one that comes later.
    page.evaluate("void (window.second = post('/login', { body: 'second' }).then(read))")
    page.get_by_role("button", name="solve").click()
    assert page.evaluate("second") == [200, {"path": "/login", "body": "second"}]
    assert page.evaluate("tencent.made.length") == 1
    page.evaluate(BEGUN)
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate(f"control.abort({DEADLINES[reason]})")
    page.get_by_role("button", name="solve").click()
    assert page.evaluate("post('/login', { body: 'third' }).then(read)")[0] == 200
    assert page.evaluate("[tencent.made.length, tencent.open]") == [2, 0]


def test_the_ticket_of_a_request_that_is_gone_is_forgotten_in_time(visit, page, site):
    page.clock.install()
    visit()
    page.evaluate(BEGUN)
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("control.abort(new DOMException('', 'TimeoutError'))")
    page.get_by_role("button", name="solve").click()
    page.clock.run_for(241_000)
    page.evaluate("void (window.second = post('/login').then(read))")
    page.get_by_role("button", name="solve").click()
    assert page.evaluate("second")[0] == 200
    assert page.evaluate("tencent.made.length") == 2


def test_a_deadline_before_anything_is_shown_shows_nothing(visit, page, site):
    visit(tencent='{ answers: ["nothing"], always: "solve" }')
    page.evaluate(BEGUN)
    page.wait_for_function("window.tencent.open === 1")
    page.evaluate("control.abort(new DOMException('', 'TimeoutError'))")
    assert page.evaluate("post('/login').then(read)")[0] == 200
    assert page.evaluate("[tencent.made.length, tencent.most]") == [2, 1]


def test_a_request_that_was_aborted_before_its_challenge_shows_none(visit):
    page = visit()
    reason = page.evaluate("""async () => {
        const control = new AbortController();
        window.fetch = async () => {
            control.abort('gone');
            const headers = { 'Tcaptcha-Code': 'risk_denied' };
            return new Response('', { status: 403, headers });
        };
        return post('/login', { signal: control.signal }).catch((reason) => reason) }""")
    assert reason == "gone"
    assert page.evaluate("window.tencent") is None


def test_a_retry_does_not_show_what_the_user_has_closed(visit, site):
    page = visit()
    page.evaluate("""void (window.retried = (async () => {
        const statuses = [];
        for (let tries = 0; tries < 3; tries += 1) {
            statuses.push((await post('/login')).status);
            await new Promise((done) => setTimeout(done, 100));
        }
        return statuses })())""")
    page.get_by_role("button", name="close").click()
    assert page.evaluate("retried") == [403, 403, 403]
    assert page.evaluate("tencent.made.length") == 1
    # Another request is not a retry, and neither is what the user asks for.
    page.evaluate("tencent.always = 'solve'")
    assert page.evaluate("post('/login/b').then(read)")[0] == 200
    page.mouse.click(5, 5)
    assert page.evaluate("post('/login').then(read)")[0] == 200


def test_a_retry_does_not_show_what_was_closed_after_its_deadline(visit, site):
    page = visit()
    page.evaluate(BEGUN)
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("control.abort()")
    page.get_by_role("button", name="close").click()
    assert page.evaluate("post('/login').then(read)")[0] == 403
    assert page.evaluate("tencent.made.length") == 1


CANCELLATIONS = {
    "a reason": "control.abort('gone')",
    "a reason that speaks of abortion": "control.abort('Abort: the user has left')",
    "another address": "history.pushState(null, '', '/other'); control.abort()",
}


@pytest.mark.parametrize("how", CANCELLATIONS)
def test_a_request_that_is_cancelled_removes_its_challenge(visit, how):
    page = visit()
    page.evaluate(BEGUN)
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate(f"() => {{ {CANCELLATIONS[how]} }}")
    page.wait_for_function("tencent.open === 0")


def test_a_retry_shows_what_the_page_has_removed(visit, site):
    page = visit()
    page.evaluate("void (window.first = post('/login').then(read))")
    page.get_by_role("button", name="solve").wait_for()
    page.evaluate("document.body.innerHTML = ''")
    assert page.evaluate("first")[0] == 403
    page.evaluate("tencent.always = 'solve'")
    assert page.evaluate("post('/login').then(read)")[0] == 200
