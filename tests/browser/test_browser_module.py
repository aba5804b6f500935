"""tcaptcha.js in a real Chromium, against a real server; only Tencent's script is a double."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import minify
import pytest
from browser import SCRIPT, TENCENT, browser, context, page, serve_script
from browser_pages import CLOSES, SOLVES, served, site, visit
from browser_site import BROWSER, SETTINGS

from tcaptcha_middleware import Reason
from tcaptcha_middleware.languages import MESSAGES

pytestmark = pytest.mark.outside

DOCS = (Path(__file__).parents[2] / "docs/browser.md").read_text()


def test_the_module_is_at_most_5_kb_compressed():
    text = (BROWSER / "tcaptcha.js").read_text()
    small = gzip.compress(minify.string("application/javascript", text).encode())
    assert len(small) <= 5120
    assert "import " not in re.sub(r"/\*.*?\*/|//.*", "", text, flags=re.DOTALL)


def test_a_request_solves_a_challenge_and_so_does_a_replay(visit, site):
    page = visit()
    page.evaluate("void (window.answer = post('/login', { body: 'name=ada' }).then(read))")
    page.get_by_role("button", name="solve").click()
    assert page.evaluate("answer") == [200, {"path": "/login", "body": "name=ada"}]
    assert site.asked == ["POST /login"]
    (bare, none), (again, ticket) = site.attempts
    assert (bare, none, again) == ("/login", None, "/login")
    assert page.evaluate("tencent.open") == 0
    # A used ticket from the caller is refused, and a new one is sent.
    headers = f"{{ 'X-Captcha-Ticket': '{ticket}', 'X-Captcha-Randstr': '@{ticket[4:7]}' }}"
    page.evaluate("tencent.always = 'solve'")
    assert page.evaluate(f"post('/login', {{ headers: {headers} }}).then(read)")[0] == 200
    assert [sent == ticket for _, sent in site.attempts[2:]] == [True, False]


def test_closing_the_challenge_returns_the_original_response(visit, site):
    page = visit(tencent=CLOSES)
    status, problem = page.evaluate("post('/login').then(read)")
    assert (status, problem["code"]) == (403, "ticket_missing")
    error = page.evaluate("failure(captcha.solve())")
    assert (error["name"], error["code"]) == ("CaptchaError", "closed")
    assert page.evaluate("failure(captcha.solve()).then(() => tencent.open)") == 0


def test_a_second_refusal_is_returned(visit, site):
    page = visit(tencent=SOLVES)
    # The double repeats the same pair, so it is already used.
    page.evaluate("crypto.randomUUID = () => '00000000-repeated'")
    assert page.evaluate("post('/login').then(read)")[0] == 200
    status, problem = page.evaluate("post('/login').then(read)")
    assert (status, problem["code"], len(site.attempts)) == (403, "ticket_reused", 4)


def test_a_request_that_needs_no_captcha_behaves_like_fetch(visit, site):
    page = visit()
    assert page.evaluate("captcha.fetch('/free').then(read)") == [
        200,
        {"path": "/free", "body": ""},
    ]
    same = """async (init) => {
        const [ours, theirs] = await Promise.all(
            [captcha.fetch, fetch].map((send) => failure(send.call(captcha, ...init()))));
        return ours.name === theirs.name && ours.name }"""
    made = ["['http://[']", "['/', {method: 'TRACE'}]", "['/', {method: 'GET', body: 'b'}]"]
    for init in made:
        assert page.evaluate(f"({same})(() => {init})") == "TypeError"
    opaque = (
        "captcha.fetch('http://localhost:%s/guarded', {mode: 'no-cors'}).then((a) => a.type)"
    )
    assert page.evaluate(opaque % site.origin.rpartition(":")[2]) == "opaque"
    assert site.asked == []


def test_responses_of_other_handlers_are_left_unread(visit, site, page):
    visit(tencent=SOLVES)

    def say(status, content_type, body):
        answer = {"status": status, "content_type": content_type, "body": body}
        page.route("**/other", lambda route: route.fulfill(**answer))

    ignored = [("application/json", 403), ("application/problem+json", 400)]
    for content_type, status in [
        *ignored,
        ("text/html", 403),
        ("application/problem+jsonx", 403),
    ]:
        body = '{"code": "ticket_missing"}'
        say(status, content_type, body)
        response = page.evaluate(
            "captcha.fetch('/other').then(async (a) => [a.status, await a.text()])"
        )
        assert response == [status, body]
    for body in ['{"code": "ticket_malformed"}', "no json", "null"]:
        say(403, "application/problem+json", body)
        assert page.evaluate("captcha.fetch('/other').then((a) => a.text())") == body
    assert site.asked == []


def test_the_script_is_loaded_once_and_again_only_after_a_failure(visit, page, context):
    visit(tencent=SOLVES)
    context.unroute(TENCENT)
    context.route(TENCENT, lambda route: route.abort())
    both = "Promise.all([captcha, new TCaptcha()].map((c) => failure(c.solve())))"
    assert [result["code"] for result in page.evaluate(both)] == ["load", "load"]
    assert page.evaluate("failure(post('/login'))")["code"] == "load"
    context.unroute(TENCENT)
    asked = []
    context.route(
        TENCENT,
        lambda route: (
            asked.append(route.request.url),
            route.fulfill(body=SCRIPT, content_type="text/javascript"),
        ),
    )
    assert all("value" in result for result in page.evaluate(both))
    assert page.evaluate("[tencent.made.length, tencent.most, tencent.loads]") == [2, 1, 1]
    (address,) = asked
    assert address.rstrip("?") == SETTINGS["script"]


def test_a_script_whose_request_hangs_is_requested_again(visit, page, context):
    visit(tencent=SOLVES)
    context.unroute(TENCENT)
    held = []

    def hang_once(route):
        if held:
            return serve_script(route)
        return held.append(route)

    context.route(TENCENT, hang_once)
    page.evaluate("captcha.options.timeout = 300")
    assert page.evaluate("failure(captcha.solve())")["code"] == "timeout"
    assert "value" in page.evaluate("failure(captcha.solve())")
    held[0].abort()


def test_a_script_that_is_empty_or_throws_counts_as_not_loaded(visit, page, context):
    visit(tencent='{ answers: ["throw"], always: "solve" }')
    context.unroute(TENCENT)
    context.route(TENCENT, lambda route: route.fulfill(body="", content_type="text/javascript"))
    assert page.evaluate("failure(captcha.solve())")["code"] == "load"
    context.unroute(TENCENT)
    context.route(TENCENT, lambda route: route.fulfill(body=SCRIPT))
    assert page.evaluate("failure(captcha.solve())")["code"] == "load"
    assert page.evaluate("captcha.solve().then((pair) => Object.keys(pair))") == [
        "ticket",
        "randstr",
    ]


def test_loading_has_a_time_limit_and_solving_does_not(visit, page, context):
    page.clock.install()
    visit()
    held = []

    def hold(route):
        held.append(route)

    page.route("**/settings.json*", hold)
    page.evaluate("captcha.options.timeout = 200")
    assert page.evaluate("failure(captcha.solve())")["code"] == "timeout"
    page.unroute("**/settings.json*")
    context.unroute(TENCENT)
    context.route(TENCENT, hold)
    assert page.evaluate("failure(captcha.solve())")["code"] == "timeout"
    context.unroute(TENCENT)
    context.route(TENCENT, lambda route: route.fulfill(body=SCRIPT))
    page.evaluate("void (captcha.options = {}, window.answer = failure(captcha.solve()))")
    page.get_by_role("button", name="solve").wait_for()
    page.clock.fast_forward("01:00:00")
    page.get_by_role("button", name="solve").click()
    assert "value" in page.evaluate("answer")


@pytest.mark.parametrize("kind", ["settings", "script"])
def test_by_default_what_hangs_times_out_after_15_seconds(visit, page, context, kind):
    page.clock.install()
    visit(tencent=SOLVES)
    held = []
    address, part = {
        "settings": ("**/settings.json*", "settings.json"),
        "script": (TENCENT, "captcha.qcloud.com"),
    }[kind]

    def hold(route):
        held.append(route)

    context.route(address, hold)
    with page.expect_event("request", lambda request: part in request.url):
        page.evaluate("""void (window.over = null,
            window.first = failure(captcha.solve()).then((end) => (over = end)))""")
    page.clock.run_for(9_000)
    assert page.evaluate("over") is None
    page.clock.run_for(7_000)
    page.wait_for_function("over !== null")
    assert page.evaluate("first")["code"] == "timeout"
    context.unroute(address, hold)
    if kind == "script":
        # Chromium asks for an address once at a time: until the connection breaks, another
        # script element waits for the first one's answer.
        held[0].abort()
    assert "value" in page.evaluate("failure(captcha.solve())")


def test_a_challenge_can_be_solved_after_being_offline(visit, context):
    page = visit(tencent=SOLVES)
    context.set_offline(True)
    assert page.evaluate("failure(captcha.solve())")["code"] == "settings"
    assert page.evaluate("failure(post('/login'))")["name"] == "TypeError"
    context.set_offline(False)
    assert page.evaluate("post('/login').then(read)")[0] == 200


def test_settings_that_cannot_be_loaded_raise_an_error(visit, site):
    page = visit()
    site.settings["status"] = 503
    assert page.evaluate("failure(captcha.solve())")["code"] == "settings"
    site.settings = {"site": "cn"}
    assert page.evaluate("failure(captcha.solve())")["code"] == "settings"
    assert page.evaluate("failure(post('/login'))")["code"] == "settings"


def answered(page, count):
    of_login = (
        "performance.getEntriesByType('resource').filter((e) => e.name.endsWith('/login'))"
    )
    page.wait_for_function(f"{of_login}.length === {count}")


def test_an_abort_ends_the_challenge(visit, site):
    page = visit()
    reason = """(work) => {
        const control = new AbortController();
        const done = work(control.signal).catch((reason) => [reason === 'gone', tencent.open]);
        return [control, done] }"""
    page.evaluate(f"void (window.begin = {reason})")
    page.evaluate("void (window.one = begin((signal) => captcha.solve({ signal })))")
    page.get_by_role("dialog").wait_for()
    # One in the queue behind it, one on its way to the server, one too late.
    page.evaluate("void (window.two = begin((signal) => captcha.solve({ signal })))")
    assert page.evaluate("(two[0].abort('gone'), two[1])") == [True, 1]
    page.evaluate("void (window.three = begin((signal) => post('/login', { signal })))")
    answered(page, 1)
    assert page.evaluate("(three[0].abort('gone'), three[1])") == [True, 1]
    late = "captcha.solve({ signal: AbortSignal.abort('gone') }).catch((reason) => reason)"
    assert page.evaluate(late) == "gone"
    assert page.evaluate("(one[0].abort('gone'), one[1])") == [True, 0]
    assert page.evaluate("tencent.made.length") == 1
    # Nothing blocks the next challenge.
    page.evaluate("tencent.always = 'solve'")
    assert page.evaluate("post('/login').then(read)")[0] == 200


TEN = (
    "Promise.all([...Array(10).keys()].map((n) => post('%s', { body: String(n) }).then(read)))"
)


def test_ten_parallel_calls_share_one_challenge_if_one_ticket_opens_a_session(visit, site):
    page = visit(tencent=SOLVES)
    answers = page.evaluate(TEN % "/session")
    assert [(status, document["body"]) for status, document in answers] == [
        (200, str(n)) for n in range(10)
    ]
    assert page.evaluate("[tencent.made.length, tencent.most]") == [1, 1]
    assert [ticket is None for _, ticket in site.attempts].count(False) == 1


def test_ten_parallel_calls_solve_one_by_one_if_each_needs_a_ticket(visit, site):
    page = visit(tencent=SOLVES)
    answers = page.evaluate(TEN % "/login")
    assert [status for status, _ in answers] == [200] * 10
    assert page.evaluate("[tencent.made.length, tencent.most]") == [10, 1]
    tickets = [ticket for _, ticket in site.attempts if ticket]
    assert len(tickets) == len(set(tickets)) == 10
    # One attempt each, a second one after the first call has solved, and one with a ticket.
    assert len(site.attempts) == 10 + 9 + 10


def test_ten_parallel_calls_are_closed_once(visit, site):
    page = visit(tencent='{ answers: ["close"], always: "solve" }')
    answers = page.evaluate(TEN % "/login")
    assert {(status, document["code"]) for status, document in answers} == {
        (403, "ticket_missing")
    }
    assert page.evaluate("tencent.made.length") == 1
    # A retry is not the user, who does something before they try again.
    assert page.evaluate("post('/login').then(read)")[0] == 403
    page.keyboard.press("Shift")
    assert page.evaluate("post('/login').then(read)")[0] == 200


def test_other_calls_go_on_if_the_first_is_aborted(visit, site):
    page = visit()
    page.evaluate("""void (window.control = new AbortController(),
        window.first = post('/login', { signal: control.signal }).catch((reason) => reason))""")
    page.get_by_role("dialog").wait_for()
    page.evaluate(f"void (tencent.always = 'solve', window.answers = {TEN % '/login'})")
    answered(page, 11)
    page.evaluate("control.abort('gone')")
    assert page.evaluate("first") == "gone"
    assert [status for status, _ in page.evaluate("answers")] == [200] * 10
    assert page.evaluate("tencent.most") == 1


BODIES = {
    "text": ("'text'", "text"),
    "bytes": ("new TextEncoder().encode('bytes')", "bytes"),
    "a blob": ("new Blob(['blob'])", "blob"),
    "parameters": ("new URLSearchParams({ a: 'b c' })", {"a": "b c"}),
    "a form": (
        """(() => { const form = new FormData(); form.set('a', 'é');
            form.set('f', new File(['x'], 'n.txt')); return form })()""",
        {"a": "é", "f": "n.txt"},
    ),
}


def test_bodies_are_sent_twice_and_the_same(visit, site):
    page = visit(tencent=SOLVES)
    for body, sent in BODIES.values():
        assert page.evaluate(f"post('/login', {{ body: {body} }}).then(read)")[0] == 200
        handled = site.handled[-1]
        assert (handled["form"] or handled["body"]) == sent
        assert handled["headers"]["content-length"].isdecimal()


def test_a_request_object_is_sent_as_it_is(visit, site):
    page = visit(tencent=SOLVES)
    result = page.evaluate("""async () => {
        const sent = new Request('/login', { method: 'PUT', body: '{"a": 1}',
            headers: { 'Content-Type': 'application/json', 'X-Own': 'kept' } });
        const put = await read(await captcha.fetch(sent));
        const post = new Request('/login', { method: 'POST', body: 'first' });
        const over = await read(await captcha.fetch(post, { body: 'second' }));
        const spent = await failure(captcha.fetch(sent));
        return [put, sent.bodyUsed, over, spent.name] }""")
    # The rule is for POST only, so a PUT needs no ticket.
    assert result == [
        [200, {"path": "/login", "body": '{"a": 1}'}],
        True,
        [200, {"path": "/login", "body": "second"}],
        "TypeError",
    ]
    assert site.handled[0]["headers"]["x-own"] == "kept"
    assert site.asked == ["POST /login"]


def test_a_body_changed_during_the_challenge_is_sent_as_it_was(visit, site):
    page = visit()
    page.evaluate("""void (window.form = new FormData(), form.set('a', 'before'),
        window.answer = post('/login', { body: form }).then(read))""")
    page.get_by_role("dialog").wait_for()
    page.evaluate("form.set('a', 'after')")
    page.get_by_role("button", name="solve").click()
    assert page.evaluate("answer")[0] == 200
    assert site.handled[0]["form"] == {"a": "before"}


def test_a_stream_is_sent_once_and_its_refusal_is_returned(visit, page, site):
    visit(tencent=SOLVES)
    # Chromium streams only over HTTP/2, so the network is a test double here.
    seen = page.evaluate("""async () => {
        const sent = [], real = window.fetch;
        window.fetch = async (...told) => (sent.push(told), new Response(
            '{"code": "ticket_missing"}',
            { status: 403, headers: { 'Content-Type': 'application/problem+json' } }));
        const body = new ReadableStream(), init = { method: 'POST', body, duplex: 'half' };
        const answer = await captcha.fetch('/login', init);
        window.fetch = real;
        return [answer.status, sent.length, sent[0][1] === init, body.locked] }""")
    assert seen == [403, 1, True, False]
    assert site.asked == []


def test_a_request_refused_after_a_redirect_is_not_sent_again(visit, site):
    page = visit(tencent=SOLVES)
    status, problem = page.evaluate("post('/moved').then(read)")
    assert (status, problem["code"]) == (403, "ticket_missing")
    assert site.attempts == [("/moved", None), ("/guarded", None)]
    assert site.asked == []


def test_another_origin_works_with_cors(visit, site):
    page = visit(tencent=SOLVES)
    other = f"http://localhost:{site.origin.rpartition(':')[2]}"
    made = f"new TCaptcha({{ settings: new URL('{other}/tcaptcha/settings.json?v=1') }})"
    url = f"{other}/login/api"
    result = page.evaluate(f"""async () => {{
        const answer = await {made}.fetch('{url}', {{ method: 'POST', body: 'b' }});
        return [answer.type, answer.status] }}""")
    assert result == ["cors", 200]
    assert site.asked == ["POST /login/api"]


@pytest.mark.parametrize(
    ("credentials", "cookies"),
    [("same-origin", ["who=ada"] * 2), ("include", ["who=ada"] * 2), ("omit", [""] * 2)],
)
def test_both_requests_use_the_credentials_option_of_fetch(visit, site, credentials, cookies):
    page = visit(tencent=SOLVES)
    page.evaluate("document.cookie = 'who=ada'")
    init = f"{{ credentials: '{credentials}' }}"
    assert page.evaluate(f"post('/login', {init}).then(read)")[0] == 200
    assert site.cookies == cookies


def made(page, index=-1):
    return page.evaluate(f"tencent.made.at({index})")


def test_tencents_script_gets_language_and_dark_mode_of_the_page(visit, page, site):
    page.emulate_media(color_scheme="dark")
    visit(tencent=SOLVES, lang="zh-CN")
    page.evaluate("captcha.solve()")
    options = {"userLanguage": "zh-cn", "enableDarkMode": True}
    assert made(page) == {"appId": "190000000", "options": options, "place": None, "live": None}
    site.settings["language"] = "ja"
    page.emulate_media(color_scheme="light")
    page.evaluate("captcha.solve()")
    assert made(page)["options"] == {"userLanguage": "ja", "enableDarkMode": False}
    options = "{ language: 'EN', darkMode: 'force', bizState: { a: 1 } }"
    page.evaluate(f"new TCaptcha({options}).solve()")
    assert made(page)["options"] == {
        "userLanguage": "en",
        "enableDarkMode": "force",
        "bizState": {"a": 1},
    }


def test_a_challenge_in_the_page_gets_its_element(visit, page):
    visit('<div id="here"></div><input id="elsewhere"><input id="start">')
    page.locator("#start").focus()
    page.evaluate("""void (window.answer = new TCaptcha(
        { embed: document.getElementById('here') }).solve())""")
    page.locator("#here").get_by_role("button", name="solve").wait_for()
    captcha = made(page)
    assert (captcha["place"], captcha["options"]["type"], captcha["live"]) == (
        "div#here",
        "embed",
        True,
    )
    # Closing the challenge does not move the focus that the user has set meanwhile.
    page.locator("#elsewhere").focus()
    page.evaluate("document.querySelector('#here button').click()")
    page.evaluate("answer")
    assert page.evaluate("document.activeElement.id") == "elsewhere"


def test_the_international_captcha_gets_an_element_that_is_removed_afterwards(
    visit, page, site
):
    script = "https://ca.turing.captcha.qcloud.com/TJNCaptcha-global.js"
    site.settings |= {"site": "intl", "script": script}
    visit(tencent='{ answers: ["solve", "close"] }')
    before = page.evaluate("document.body.childElementCount")
    page.evaluate("captcha.solve()")
    assert page.evaluate("failure(captcha.solve())")["code"] == "closed"
    assert (made(page)["place"], made(page)["live"]) == ("div#", True)
    assert "type" not in made(page)["options"]
    assert page.evaluate("document.body.childElementCount") == before


def test_aid_encrypted_is_fresh_for_each_challenge(visit, page, site):
    site.settings |= {"aidEncrypted": "fresh"}
    visit(tencent=SOLVES)
    page.evaluate("Promise.all([captcha.solve(), post('/login'), captcha.solve()])")
    values = [page.evaluate(f"tencent.made[{n}].options.aidEncrypted") for n in range(3)]
    assert values == ["fresh 1", "fresh 2", "fresh 3"]
    assert "aidEncryptedType" not in made(page)["options"]


def test_settings_can_be_set_in_the_page(visit, page, site):
    visit(tencent=SOLVES)
    settings = {"appId": 1900, "site": "cn", "script": SETTINGS["script"]}
    page.evaluate("(settings) => { captcha.options = { settings } }", settings)
    response = page.evaluate("post('/login').then(read)")
    assert (response[0], site.asked, made(page)["appId"]) == (200, [], "1900")


@pytest.mark.parametrize("kind", ["disaster", "unnumbered", "empty"])
def test_no_ticket_that_tencent_did_not_issue_is_returned(visit, page, site, kind):
    visit(tencent=f'{{ always: "{kind}" }}')
    assert page.evaluate("failure(captcha.solve())")["code"] == "network"
    assert page.evaluate("failure(post('/login'))")["code"] == "network"
    assert [ticket for _, ticket in site.attempts] == [None]
    page.evaluate("captcha.options.disasterTickets = true")
    error = page.evaluate("failure(captcha.solve())")
    if kind == "empty":
        assert error["code"] == "network"
    else:
        assert re.match(r"tr?error_1006_", error["value"]["ticket"])


FORM = """
<form id="a" data-tcaptcha action="/login" method="post">
  <input id="name" name="name" required> <button name="go" value="1">Go</button>
  <button name="go" value="2" formaction="/login/two">Two</button>
  <button formmethod="dialog">Cancel</button>
</form>
"""
HEARD = """
window.heard = [];
for (const type of ["submit", "tcaptcha-solved", "tcaptcha-error"])
  addEventListener(type, (event) => heard.push(type));
"""


def test_a_form_is_sent_with_a_ticket_by_keyboard_alone(visit, page, site):
    visit(FORM)
    page.evaluate(HEARD)
    page.locator("#name").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("[heard, window.tencent?.made ?? []]") == [[], []]  # not valid yet
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="solve").wait_for()
    status = page.get_by_role("status")
    status.get_by_text("Please solve the captcha.").wait_for()
    go = page.get_by_role("button", name="Go", exact=True)
    assert go.get_attribute("aria-busy") == "true"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # closes
    page.locator("#a[data-tcaptcha-state=closed]").wait_for()
    status.get_by_text("The captcha was closed. Please try again.").wait_for()
    assert page.evaluate("document.activeElement.id") == "name"
    assert go.get_attribute("aria-busy") == "false"
    assert page.evaluate("heard") == ["tcaptcha-error"]
    page.keyboard.press("Enter")
    page.get_by_role("button", name="solve").wait_for()
    with page.expect_navigation():
        page.keyboard.press("Enter")
    (handled,) = site.handled
    assert handled["form"].keys() == {"ticket", "randstr", "name", "go"}
    assert (handled["form"]["name"], handled["form"]["go"]) == ("ada", "1")
    assert set(site.asked) == {"POST /login"}


def test_a_form_keeps_its_submitter_with_its_attributes(visit, page, site):
    visit(FORM, tencent=SOLVES)
    page.locator("#name").fill("ada")
    page.get_by_role("button", name="Cancel").click()
    assert page.evaluate("tencent.made ?? []") == []
    with page.expect_navigation():
        page.get_by_role("button", name="Two").click()
    (handled,) = site.handled
    assert (handled["path"], handled["form"]["go"]) == ("/login/two", "2")
    assert site.asked[-1] == "POST /login/two"


def test_a_page_from_the_back_forward_cache_drops_the_old_ticket(visit, page, site):
    visit(FORM, tencent=SOLVES)
    page.locator("#name").fill("ada")
    page.evaluate("addEventListener('pageshow', (event) => (window.again = event.persisted))")
    for count in (1, 2):
        with page.expect_navigation():
            page.get_by_role("button", name="Go", exact=True).click()
        page.go_back(wait_until="commit")
        page.wait_for_function("window.again")
        values = page.locator("input[type=hidden]").evaluate_all(
            "all => all.map((i) => i.value)"
        )
        assert set(values) <= {""}
        assert len(site.handled) == count
    tickets = {handled["form"]["ticket"] for handled in site.handled}
    assert len(tickets) == 2


def test_a_form_handled_by_scripts_gets_one_submit_event_with_the_pair(visit, page, site):
    visit(tencent=SOLVES)
    # The form is added after the module; its fields hide the form's own `action` and `method`.
    page.evaluate("""() => {
        document.body.insertAdjacentHTML('beforeend',
            '<form data-tcaptcha method=post><input name=action><input name=method><button>Go');
        window.seen = [];
        document.querySelector('form').addEventListener('submit', (event) => {
            event.preventDefault();
            seen.push(Object.fromEntries(new FormData(event.target)));
        }) }""")
    for count in (1, 2):
        page.get_by_role("button", name="Go").dblclick()  # the second click must be ignored
        page.wait_for_function(f"seen.length === {count}")
    first, second = page.evaluate("seen")
    assert list(first) == ["randstr", "ticket", "action", "method"]
    assert first["ticket"].startswith("tr03")
    assert first["ticket"] != second["ticket"]
    assert page.evaluate("tencent.made.length") == 2
    assert page.evaluate("[...new FormData(document.forms[0]).values()]") == [""] * 4


def test_two_forms_on_one_page_are_independent(visit, page, site):
    other = FORM.replace('id="a"', 'id="b"').replace("/login", "/login/b").replace("name", "n")
    visit(FORM + other.replace('n="go"', 'name="go"').replace(' n="n"', ' name="n"'))
    page.evaluate(
        "addEventListener('submit', (e) => (e.preventDefault(), (window.sent ??= []).push("
        "[e.target.id, e.target.elements.ticket.value])))"
    )
    page.evaluate(
        "for (const id of 'ab') { const form = document.getElementById(id);"
        " form.noValidate = true; form.requestSubmit(); }"
    )
    for count in (1, 2):
        page.get_by_role("button", name="solve").click()
        page.wait_for_function(f"window.sent?.length === {count}")
    (a, first), (b, second) = page.evaluate("sent")
    assert (a, b, first == second) == ("a", "b", False)
    assert page.evaluate("[tencent.most, tencent.made.length]") == [1, 2]
    assert site.asked == ["POST /login", "POST /login/b"]
    states = page.locator("form").evaluate_all("all => all.map((f) => f.dataset.tcaptchaState)")
    assert states == ["solved", "solved"]


CSP = (
    "default-src 'none'; script-src 'nonce-n0nce'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'"
)


def test_a_button_solves_first_under_a_strict_policy(visit, page, site):
    page.add_init_script(HEARD)
    visit(
        '<form action="/login" method="post"><input name="name" value="ada">'
        "<div data-tcaptcha-embed></div>"
        "<tcaptcha-button>Log <b>in</b></tcaptcha-button></form>",
        csp=CSP,
    )
    button = page.get_by_role("button", name="Log in")
    button.focus()
    page.keyboard.press("Space")
    page.locator("[data-tcaptcha-embed] [role=dialog]").wait_for()
    host = page.locator("tcaptcha-button")
    assert host.get_attribute("data-tcaptcha-state") == "busy"
    page.get_by_role("button", name="close").click()
    page.locator("tcaptcha-button[data-tcaptcha-state=closed]").wait_for()
    host.get_by_role("status").get_by_text(MESSAGES["en"]["closed"]).wait_for()
    assert button.evaluate("b => b === document.activeElement")
    page.evaluate(
        "addEventListener('tcaptcha-solved', (e) => e.preventDefault(), { once: true })"
    )
    button.click()
    page.get_by_role("button", name="solve").click()
    page.locator("tcaptcha-button[data-tcaptcha-state=solved]").wait_for()
    # A listener that prevents the default gets the pair and sends it itself.
    assert page.evaluate("heard") == ["tcaptcha-error", "tcaptcha-solved"]
    button.click()
    page.get_by_role("button", name="solve").wait_for()
    assert page.evaluate("violations") == []
    with page.expect_navigation():
        page.get_by_role("button", name="solve").click()
    assert site.handled[0]["form"]["name"] == "ada"
    assert len(site.handled) == 1


def test_a_button_whose_script_fails_to_load_says_so(visit, page, site):
    page.add_init_script(HEARD)
    site.settings["status"] = 500
    visit(
        '<form method="post"><tcaptcha-button><button name="own">Own</button></tcaptcha-button>'
    )
    page.get_by_role("button").click()
    page.locator("tcaptcha-button[data-tcaptcha-state=failed]").wait_for()
    # The module's own words, because the settings bring no others.
    words = "The captcha could not be loaded. Please try again."
    page.get_by_role("status").get_by_text(words, exact=True).wait_for()
    assert page.evaluate("heard") == ["tcaptcha-error"]
    assert page.get_by_role("button").get_attribute("name") == "own"
    # An element that is moved in the page keeps its state.
    page.evaluate("document.body.append(document.querySelector('tcaptcha-button'))")
    assert page.locator("tcaptcha-button > *").count() == 2


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)


def test_the_form_in_the_documentation_is_protected(visit, page, site):
    visit(blocks("html")[0], tencent=SOLVES)
    with page.expect_navigation():
        page.get_by_role("button", name="Log in").click()
    assert site.handled[0]["form"].keys() == {"ticket", "randstr", "user"}


def test_the_scripts_in_the_documentation_run(visit, page, site):
    visit(tencent=SOLVES)
    for count, script in enumerate(blocks("js"), 1):
        page.add_script_tag(type="module", content=f"{script};window.ran = {count}")
        page.wait_for_function(f"window.ran === {count}")
    assert [ticket is None for _, ticket in site.attempts] == [True, False, False]
    assert page.evaluate("captcha.options") == {"language": "zh-cn"}


def test_the_tables_in_the_documentation_match_the_types():
    types = (BROWSER / "tcaptcha.d.ts").read_text()
    (codes,) = re.findall("type Code = (.*);", types)
    (options,) = re.findall(r"interface Options \{(.*?)^}", types, re.DOTALL | re.MULTILINE)
    documented = re.findall(r"^\| `(\w+)` \|", DOCS, re.MULTILINE)
    assert documented == re.findall(r'"(\w+)"', codes) + re.findall(
        r"^  (\w+)\?", options, re.MULTILINE
    )


def test_the_module_shows_the_captcha_for_the_refusals_that_need_one():
    text = (BROWSER / "tcaptcha.js").read_text()
    (shown,) = re.findall(r"SHOW =\s+/\^(\(.*\))\$/;", text)
    asking = [reason.value for reason in Reason if reason.status in (403, 413)]
    assert [reason.value for reason in Reason if re.fullmatch(shown, reason.value)] == asking
