"""The challenge page: which requests get it, what it contains, and its cookies.

These tests cover the server's side; `test_browser_journeys.py` covers the browser's.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from adapters import Exchange
from both_adapters import ADAPTERS, APPLICATION
from hypothesis import example, given, settings
from hypothesis import strategies as st
from replay_stores import isolated_store

from tcaptcha_middleware import (
    CaptchaInfo,
    Guard,
    OutageError,
    Page,
    PlainResponse,
    Reason,
    RequestInfo,
    Rule,
    ThrottledError,
    Verdict,
    sources,
)
from tcaptcha_middleware.browser.challenge import NavigationCookie
from tcaptcha_middleware.extraction.pairs import NOTHING, Invalid, PartialPair
from tcaptcha_middleware.extraction.parsers import MAX_REPEATS
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM
from tcaptcha_middleware.testing import FakeVerifier

SCRIPT = "http://127.0.0.1:9/TJCaptcha.js"
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
COOKIES = ("Cookie", "other=1; tcaptcha_ticket=tr03a%2A; tcaptcha_randstr=%40b")
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)


class Shown(FakeVerifier):
    def __init__(self, *outcomes):
        super().__init__(*outcomes)
        self.captcha = CaptchaInfo(190000000, script=SCRIPT)


def guard(*outcomes, rules=("/secret/**",), **more):
    return Guard(rules, Shown(*outcomes), **{"page": "/tcaptcha"} | more)


def opened(*headers, target="/secret/x", method="GET", accept=HTML):
    return Exchange(method, target, (("Accept", accept), *headers))


def is_challenge(answer):
    return b'<script type="module"' in answer.body


def nonce_of(answer):
    (nonce,) = re.findall(r"'nonce-([^']+)'", answer.headers["content-security-policy"])
    return nonce


def data_of(answer):
    (data,) = re.findall(rb"const \{ module, [a-z, ]+ \} = (.*);\n", answer.body)
    return json.loads(data)


@every_adapter
def test_opening_a_page_shows_the_challenge(adapter):
    answer = adapter(guard(), opened())
    assert answer.status == 403
    assert is_challenge(answer)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert data_of(answer)["module"] == "/tcaptcha/tcaptcha.js"


OTHERS = {
    "a script's fetch": opened(accept="*/*"),
    "axios": opened(accept="application/json, text/plain, */*"),
    "a fetch that asks for HTML": opened(("Sec-Fetch-Dest", "empty")),
    "a picture": opened(("Sec-Fetch-Dest", "image")),
    "a HEAD": opened(method="HEAD"),
    "a submitted form": opened(method="POST"),
    "another method": opened(method="PUT"),
}


@every_adapter
@pytest.mark.parametrize("exchange", OTHERS.values(), ids=OTHERS)
def test_a_request_that_opens_no_page_gets_the_plain_refusal(adapter, exchange):
    plain = adapter(guard(page=None), exchange)
    assert adapter(guard(), exchange) == plain
    assert not is_challenge(plain)


@every_adapter
def test_a_browser_that_sends_sec_fetch_dest_document_sees_the_challenge(adapter):
    assert is_challenge(adapter(guard(), opened(("Sec-Fetch-Dest", "document"))))


@every_adapter
@pytest.mark.parametrize("place", ["iframe", "frame"])
def test_a_frame_gets_the_challenge_but_spends_no_cookies(adapter, place):
    gate = guard()
    answer = adapter(gate, opened(("Sec-Fetch-Dest", place), COOKIES))
    assert is_challenge(answer)
    assert gate.verifier.tickets == []
    for refusal in (answer, adapter(guard(page=None), opened(("Sec-Fetch-Dest", place)))):
        assert "frame-ancestors" not in refusal.headers["content-security-policy"]


SAID = {
    7: "ticket_rejected",
    8: "ticket_expired",
    9: "ticket_reused",
    21: "risk_denied",
    Verdict(1, evil_level=100): "risk_denied",
}


@every_adapter
@pytest.mark.parametrize(("outcome", "code"), SAID.items(), ids=repr)
def test_a_refusal_that_another_captcha_may_fix_shows_the_challenge(adapter, outcome, code):
    answer = adapter(guard(outcome), opened(COOKIES))
    assert (answer.status, is_challenge(answer)) == (403, True)
    assert code.encode() in answer.body


@every_adapter
def test_a_disaster_ticket_shows_the_challenge(adapter):
    cookies = "tcaptcha_ticket=trerror_1001_1_1700000000; tcaptcha_randstr=%40b"
    answer = adapter(guard(), opened(("Cookie", cookies)))
    assert is_challenge(answer)
    assert b"disaster_ticket" in answer.body


PLAIN = {
    16: 500,
    26: 503,
    OutageError("down"): 503,
    ThrottledError("slow down"): 503,
    ZeroDivisionError("a bug"): 500,
}


@every_adapter
@pytest.mark.parametrize(("outcome", "status"), PLAIN.items(), ids=repr)
def test_a_refusal_that_no_captcha_can_fix_shows_no_challenge(adapter, outcome, status):
    answer = adapter(guard(outcome), opened(COOKIES))
    assert (answer.status, is_challenge(answer)) == (status, False)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@every_adapter
def test_a_responder_takes_precedence_over_the_challenge(adapter):
    gate = guard(
        responder=lambda request, refuse: PlainResponse(418, [("Content-Type", "a/b")])
    )
    assert adapter(gate, opened()).status == 418


@every_adapter
def test_if_a_responder_fails_the_challenge_is_shown(adapter):
    assert is_challenge(adapter(guard(responder=lambda request, refuse: 1 / 0), opened()))


@every_adapter
def test_in_observe_mode_the_page_is_shown(adapter):
    assert adapter(guard(mode="observe"), opened())[::2] == APPLICATION


@every_adapter
def test_a_captcha_that_no_browser_can_show_is_not_shown(adapter):
    rules = ["/x", Rule("/secret/**", verifier=FakeVerifier(action=MINI_PROGRAM))]
    gate = guard(rules=rules, replay_store=isolated_store())
    assert not is_challenge(adapter(gate, opened()))


# -- The cookies ------


@every_adapter
def test_the_cookies_let_the_page_in_once(adapter):
    gate = guard()
    assert adapter(gate, opened(COOKIES))[::2] == APPLICATION
    again = adapter(gate, opened(COOKIES))
    assert is_challenge(again)
    assert b"ticket_reused" in again.body
    (ticket,) = gate.verifier.tickets
    assert (ticket.ticket, ticket.randstr) == ("tr03a*", "@b")


@every_adapter
@pytest.mark.parametrize("name", [name for name in OTHERS if name != "a HEAD"])
def test_a_request_that_opens_no_page_cannot_spend_the_cookies(adapter, name):
    exchange = OTHERS[name]
    gate = guard()
    answer = adapter(gate, replace(exchange, headers=(*exchange.headers, COOKIES)))
    assert (answer.status, gate.verifier.tickets) == (403, [])


@every_adapter
def test_without_a_page_cookies_are_not_read(adapter):
    gate = guard(page=None)
    assert adapter(gate, opened(COOKIES)).status == 403
    assert gate.verifier.tickets == []


@every_adapter
def test_without_a_page_the_log_says_why_a_browser_saw_no_captcha(adapter, caplog):
    caplog.set_level("INFO")
    gate = guard(page=None)
    for exchange in (opened(accept="*/*"), opened(method="POST"), opened()):
        adapter(gate, exchange)
    lines = [line for line in caplog.messages if "no page= is set" in line]
    assert len(lines) == 1
    assert lines[0].startswith("/secret/**: ")


@every_adapter
def test_cookies_are_read_after_all_other_sources(adapter):
    gate = guard()
    pair = (("X-Captcha-Ticket", "tr03head"), ("X-Captcha-Randstr", "@head"))
    assert adapter(gate, opened(*pair, COOKIES))[::2] == APPLICATION
    assert gate.verifier.tickets[0].ticket == "tr03head"


def cookies_of(value, method="GET", kind="http"):
    head = [(b"accept", b"text/html"), (b"cookie", value)]
    return NavigationCookie().find(RequestInfo(kind, method, "/", headers=head))


PAIR_COOKIES = b"tcaptcha_ticket=tr03%2A; tcaptcha_randstr=%40rand"
FOUND = PartialPair("tr03*", "@rand")


@pytest.mark.parametrize("method", ["GET", "HEAD", "get"])
def test_cookies_are_read_for_safe_methods(method):
    assert cookies_of(PAIR_COOKIES, method) == FOUND


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY", ""])
def test_cookies_are_not_read_for_unsafe_methods(method):
    assert cookies_of(PAIR_COOKIES, method) == NOTHING


def test_a_planted_cookie_does_not_override_the_hosts_own_cookie():
    own = PAIR_COOKIES.replace(b"tcaptcha", b"__Host-tcaptcha")
    planted = b"tcaptcha_ticket=planted; tcaptcha_randstr=planted; tcaptcha_ticket=more; "
    assert cookies_of(planted + own) == FOUND
    assert cookies_of(b"__Host-tcaptcha_ticket=half; " + PAIR_COOKIES) == FOUND


def test_no_cookie_opens_a_websocket():
    assert cookies_of(PAIR_COOKIES, kind="websocket") == NOTHING


COOKIE_NAMES = ["tcaptcha_ticket", "tcaptcha_randstr"]
SCRAPS = st.lists(st.sampled_from([*COOKIE_NAMES, "=", ";", ",", " ", "%4", "é", "a"])).map(
    "".join
)


@given(st.binary() | st.lists(SCRAPS).map(lambda parts: "".join(parts).encode("latin-1")))
@example(PAIR_COOKIES)
def test_no_cookie_raises_and_no_value_is_invented(value):
    pair = cookies_of(value)
    parts = [part.partition("=") for part in re.split("[;,]", value.decode("latin-1"))]
    for cookie, text in zip(COOKIE_NAMES, pair, strict=True):
        assert text in (None, Invalid.AMBIGUOUS) or text in {
            unquote(sent.strip()) for name, _, sent in parts if name.strip() == cookie
        }


def test_few_of_many_cookies_are_decoded(monkeypatch):
    decoded = []
    monkeypatch.setattr(
        "tcaptcha_middleware.browser.challenge.unquote",
        lambda text: decoded.append(text) or text,
    )
    more = b"; ".join(b"x%d=%%41" % number for number in range(5_000))
    again = b"; ".join(b"tcaptcha_ticket=%d" % number for number in range(3_000))
    assert cookies_of(more + b"; " + again) == PartialPair(Invalid.AMBIGUOUS)
    assert len(decoded) == MAX_REPEATS


@every_adapter
def test_a_rule_with_other_sources_can_be_solved_too(adapter):
    gate = guard(rules=[Rule("/secret/**", sources=[sources.Head(lambda _: None)])])
    assert data_of(adapter(gate, opened()))["cookies"] == [
        "tcaptcha_ticket",
        "tcaptcha_randstr",
    ]
    assert adapter(gate, opened(COOKIES))[::2] == APPLICATION


# -- The content of the page ------


@every_adapter
def test_the_policy_allows_only_the_page_and_the_captcha_to_run(adapter):
    policy = adapter(guard(), opened()).headers["content-security-policy"]
    directives = {
        name: rest.split() for name, _, rest in (p.partition(" ") for p in policy.split("; "))
    }
    for name in ("default-src", "base-uri", "form-action"):
        assert directives[name] == ["'none'"]
    assert directives["script-src"][0].startswith("'nonce-")
    assert all(re.fullmatch(r"https?://[a-z0-9.:-]+", s) for s in directives["script-src"][1:])
    assert directives["connect-src"][0] == directives["img-src"][0] == "'self'"
    assert "http://127.0.0.1:9" in directives["script-src"]


@every_adapter
def test_every_response_has_a_different_nonce(adapter):
    gate = guard()
    nonces = [nonce_of(answer) for answer in (adapter(gate, opened()) for _ in range(20))]
    assert len(set(nonces)) == 20
    assert all(len(nonce) >= 22 for nonce in nonces)


class Scripts(HTMLParser):
    """The attributes of every script, and all other attributes that run code."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.others, self.text = [], [], page.decode()
        self.feed(self.text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag == "script":
            self.scripts.append(dict(attrs))
        self.others += [name for name, _ in attrs if name.startswith("on") or name == "src"]


@every_adapter
def test_the_only_script_has_the_nonce(adapter):
    answer = adapter(guard(), opened())
    page = Scripts(answer.body)
    assert page.scripts == [{"type": "module", "nonce": nonce_of(answer)}]
    assert page.others == []


@every_adapter
@pytest.mark.parametrize(
    ("root", "module"),
    [
        ("/mount", "/mount/tcaptcha/tcaptcha.js"),
        ("/mount/", "/mount/tcaptcha/tcaptcha.js"),
        ("//evil.example", "/evil.example/tcaptcha/tcaptcha.js"),
        ("/</script>", "/%3C/script%3E/tcaptcha/tcaptcha.js"),
        ('/"', "/%22/tcaptcha/tcaptcha.js"),
    ],
)
def test_the_module_is_below_the_mount_on_the_same_host(adapter, root, module):
    answer = adapter(guard(rules=["/**"]), opened(), root)
    assert data_of(answer)["module"] == module
    assert len(Scripts(answer.body).scripts) == 1


@every_adapter
@pytest.mark.parametrize(("target", "depth"), [("/secret", 1), ("/secret/a/b", 3)])
@pytest.mark.parametrize("root", ["", "/mount"])
def test_the_page_has_the_number_of_segments_in_its_path(adapter, target, depth, root):
    answer = adapter(guard(rules=["/**"]), opened(target=target), root)
    assert data_of(answer)["depth"] == depth + root.count("/")


BLOCKED = {"en": "allow scripts", "zh-CN": "允许运行脚本", "zh-TW": "允許執行指令碼"}


@every_adapter
@pytest.mark.parametrize(("language", "words"), BLOCKED.items())
def test_until_its_script_runs_the_page_says_that_scripts_are_blocked(adapter, language, words):
    text = adapter(guard(), opened(("Accept-Language", language))).body.decode()
    assert words in re.search(r'<p id="status"[^>]*>(.*?)</p>', text)[1]
    # A browser that blocks this script only does not show <noscript>.
    assert "<noscript" not in text


LANGUAGES = [
    ("zh-CN,zh;q=0.9,en;q=0.8", None, "zh-cn", "请完成验证"),
    ("zh-TW", None, "zh-tw", "請完成驗證"),
    ("ja, zh-HK;q=0.5, en;q=0.4", None, "zh-tw", "請完成驗證"),
    ("en-GB,en;q=0.9,zh;q=0.8", None, "en", "Are you human?"),
    ("", None, "en", "Are you human?"),
    ('"><script>', None, "en", "Are you human?"),
    ("en", "zh-HK", "zh-tw", "請完成驗證"),
    ("zh", "ja", "zh-cn", "请完成验证"),
]


@every_adapter
@pytest.mark.parametrize(("accepted", "set_to", "language", "title"), LANGUAGES)
def test_the_page_speaks_the_visitors_language(adapter, accepted, set_to, language, title):
    gate = guard(page=Page(language=set_to))
    text = adapter(gate, opened(("Accept-Language", accepted))).body.decode()
    assert f'<html lang="{language}">' in text
    assert f"<h1>{title}</h1>" in text
    assert data_of(adapter(gate, opened()))["language"] == set_to


MARKUP = st.sampled_from(
    ['"><svg onload=x>', "</script><script>x", "'-x-'", "${x}", "{{x}}", "$nonce"]
)


@every_adapter
@settings(max_examples=60)
@given(more=MARKUP | st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=8))
def test_nothing_of_the_request_is_echoed(adapter, more):
    def shown(path, query, value):
        headers = [
            (name, value) for name in ("User-Agent", "Referer", "Host", "Accept-Language")
        ]
        exchange = opened(*headers, ("Cookie", f"a={value}"), target=f"/secret/{path}?{query}")
        answer = adapter(guard(), exchange)
        text = repr(answer._replace(headers=sorted(answer.headers.items())))
        # A number cannot carry markup.
        text = re.sub('"depth": [0-9]+,', "", text)
        return text.replace(nonce_of(answer), "NONCE")

    value = f"xx{more}".replace("?", "").replace("#", "").replace("%", "")
    assert shown(value, value, value) == shown("x", "x", "x")


@every_adapter
@pytest.mark.parametrize("accept", ["text/html", "text/plain", "*/*"])
@settings(max_examples=20)
@given(more=MARKUP | st.text(st.characters(min_codepoint=33, max_codepoint=255), min_size=8))
def test_nothing_of_a_refused_form_is_echoed(adapter, accept, more):
    def shown(value):
        names = ("User-Agent", "Referer", "Host", "Accept-Language", "Cookie")
        headers = (
            ("Accept", accept),
            ("Content-Type", "application/x-www-form-urlencoded"),
            *((name, value) for name in names),
        )
        body = f"name={value}".encode()
        exchange = Exchange("POST", f"/secret/{value}?{value}", headers, (body,))
        answer = adapter(guard(page=None), exchange)
        assert answer.status == 403
        return repr(answer._replace(headers=sorted(answer.headers.items())))

    assert shown(f"xx{more}".replace("?", "").replace("#", "").replace("%", "")) == shown("x")


def test_both_adapters_send_the_same_page():
    pages = []
    for adapter in ADAPTERS.values():
        answer = adapter(guard(), opened())
        nonce = nonce_of(answer)
        pages.append(repr(answer).replace(nonce, "NONCE"))
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "reason", [reason for reason in Reason if reason.status == 403], ids=str
)
def test_the_page_says_if_a_ticket_was_rejected_but_not_if_it_expired(reason):
    outcomes = {
        "ticket_rejected": 7,
        "ticket_expired": 8,
        "ticket_reused": 9,
        "risk_denied": 21,
    }
    cookies = [COOKIES] if reason in outcomes else []
    if reason is Reason.DISASTER_TICKET:
        cookies = [("Cookie", "tcaptcha_ticket=terror_1; tcaptcha_randstr=a")]
    answer = ADAPTERS["wsgi"](guard(outcomes.get(reason, 1)), opened(*cookies))
    assert reason.value.encode() in answer.body
    failed = reason in (Reason.TICKET_REJECTED, Reason.RISK_DENIED, Reason.DISASTER_TICKET)
    assert (b"did not let you in" in answer.body) is failed
