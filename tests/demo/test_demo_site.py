"""The demo's server without a browser: files, failures, and the steps of a request."""

from __future__ import annotations

import re
from itertools import chain
from urllib.parse import urljoin

import httpx
import pytest
from starlette.testclient import TestClient

from tcaptcha_middleware import TencentVerifier
from tcaptcha_middleware.demo.site import SCRIPT, require_decision, site
from tcaptcha_middleware.health import monitor
from tcaptcha_middleware.testing import TencentEmulator

HTML = {"Accept": "text/html"}


@pytest.fixture
def emulator(monkeypatch):
    # Probes follow each other at once, so no test waits for an outage.
    monkeypatch.setattr(monitor, "INTERVAL", 0.02)
    monkeypatch.setattr(monitor, "APART", 0.01)
    emulator = TencentEmulator()
    with emulator.serve() as emulator.endpoint:
        yield emulator


def verifier_of(emulator, **more):
    settings = emulator.settings | {"endpoint": emulator.endpoint, "script": SCRIPT}
    return TencentVerifier(**settings, **more)


@pytest.fixture
def demo(emulator):
    with TestClient(site(verifier_of(emulator), emulator)) as client:
        yield client


def challenge(emulator):
    """Request a challenge, as the emulator's script does."""
    request = {"script": "TJCaptcha.js", "appId": "190000000", "options": {}}
    return httpx.post(f"{emulator.endpoint}/__emulator__/challenge", json=request).json()


def in_headers(pair):
    return {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}


def in_cookies(pair):
    return HTML | {
        "Cookie": "; ".join(f"tcaptcha_{k}={pair[k]}" for k in ("ticket", "randstr"))
    }


def fail(demo, emulator, name, path="/login"):
    assert demo.post(f"/failures/{name}").status_code == 204
    return demo.post(path, headers=in_headers(challenge(emulator)))


def trace(demo, answer):
    return demo.get(f"/trace/{answer.headers['X-Trace']}").json()


def states(timeline):
    return " ".join(step["state"] for step in timeline["steps"])


def step(timeline, who):
    (match,) = [step for step in timeline["steps"] if step["who"] == who]
    return match["title"], dict(match["facts"])


# -- Pages and files ------


@pytest.mark.parametrize(
    ("path", "kind"),
    {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg"}.items(),
)
def test_the_page_loads_its_own_files(demo, path, kind):
    assert f'"{path}"' in demo.get("/").text
    assert demo.get(f"/{path}").headers["content-type"].startswith(kind)


def test_the_pages_name_every_address_relative_to_their_own(demo, emulator):
    pages = [demo.get("/"), demo.get("/report", headers=in_cookies(emulator.mint()))]
    addresses = re.findall(r'(?:src|href|action)="([^"]*)"', "".join(p.text for p in pages))
    assert len(addresses) > 10
    assert not [address for address in addresses if re.match(r"/|https?:", address)]


def test_the_emulators_browser_side_is_served_without_its_control_api(demo):
    script = urljoin(
        "/tcaptcha/settings.json", demo.get("/tcaptcha/settings.json").json()["script"]
    )
    assert "TencentCaptcha" in demo.get(script).text
    request = {"script": "TJCaptcha.js", "appId": "190000000", "options": {}}
    challenge = demo.post(urljoin(script, "__emulator__/challenge"), json=request)
    assert challenge.json()["outcome"] == "solve"
    for name in ("tickets", "script", "challenges", "loads"):
        assert demo.post(urljoin(script, f"__emulator__/{name}"), json={}).status_code == 404


def test_the_code_of_each_button_is_the_source(demo):
    code = demo.get("/code").json()
    assert code.keys() == {"login", "comment", "report", "unloadable", *FAILURES, *WITHOUT_CALL}
    assert 'Rule("POST /comment", on_unavailable="allow")' in code["comment"]
    assert "\nasync def login(self, request: Request)" in code["login"]
    assert code["down"] == "emulator.challenge({'skip': True})\nemulator.is_up = False"


@pytest.mark.parametrize("name", ["expired", "unanswered", "unloadable"])
def test_the_code_of_a_failure_makes_it_fail(demo, emulator, name):
    exec(demo.get("/code").json()[name], {"emulator": emulator})
    script = demo.get("/emulator/TJCaptcha.js")
    answer = demo.post("/login", headers=in_headers(challenge(emulator)))
    statuses = {"expired": (200, 403), "unanswered": (200, 503), "unloadable": (503, 200)}
    assert (script.status_code, answer.status_code) == statuses[name]


def test_with_the_emulator_the_policy_allows_nothing_inline(demo):
    policy = demo.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy


def test_with_an_account_the_policy_allows_only_inline_styles_for_tencents_script(emulator):
    with TestClient(site(verifier_of(emulator))) as client:
        policy = client.get("/").headers["content-security-policy"]
    assert re.findall(r"([a-z-]+) [^;]*'unsafe-inline'", policy) == ["style-src"]


def test_with_an_account_the_page_offers_no_failures(emulator):
    with TestClient(site(verifier_of(emulator))) as client:
        assert client.get("/code").json().keys() == {"login", "comment", "report"}
        assert client.get("/emulator/TJCaptcha.js").status_code == 404
        assert client.post("/failures/down").status_code == 404
        assert 'data-backend="tencent"' in client.get("/").text


def test_the_report_links_to_its_own_trace(demo, emulator):
    answer = demo.get("/report", headers=in_cookies(emulator.mint()))
    assert answer.status_code == 200
    assert f"/?trace={answer.headers['X-Trace']}" in answer.text


def test_a_handler_without_the_gate_raises():
    with pytest.raises(RuntimeError, match="gate"):
        require_decision({"type": "http"})


# -- Failures ------

FAILURES = {
    "expired": (403, "ticket_expired", "ok ok refused refused skipped"),
    "forged": (403, "ticket_rejected", "ok ok refused refused skipped"),
    "foreign": (500, "misconfigured", "ok ok refused refused skipped"),
    "malicious": (403, "risk_denied", "ok ok refused refused skipped"),
    "risky": (403, "risk_denied", "ok ok refused refused skipped"),
    "unanswered": (503, "verifier_unavailable", "ok ok refused refused skipped"),
    "down": (503, "verifier_unavailable", "ok refused skipped skipped skipped"),
    "throttled": (503, "overloaded", "ok ok refused refused skipped"),
}
WITHOUT_CALL = {"closed": "close", "broken": "error", "replayed": "skip"}


@pytest.mark.parametrize(("name", "expected"), FAILURES.items(), ids=FAILURES)
def test_a_failure_is_answered_and_shown(demo, emulator, name, expected):
    answer = fail(demo, emulator, name)
    timeline = trace(demo, answer)
    assert (answer.status_code, answer.json()["code"], states(timeline)) == expected
    assert (timeline["status"], timeline["reason"], timeline["outcome"]) == (
        *expected[:2],
        "refused",
    )
    assert demo.post("/failures/over").status_code == 204
    assert demo.post("/login", headers=in_headers(challenge(emulator))).status_code == 200


def test_an_evil_level_is_shown_beside_the_code(demo, emulator):
    timeline = trace(demo, fail(demo, emulator, "malicious"))
    assert step(timeline, "Tencent")[0] == "Returned 1 with evil level 100, “OK”"


def test_a_ticket_sent_twice_is_refused_by_the_gate(demo, emulator):
    pair = emulator.mint()
    demo.post("/login", data=pair)
    timeline = trace(demo, demo.post("/login", data=pair))
    assert states(timeline) == "ok refused skipped skipped skipped"
    title, facts = step(timeline, "Gate")
    assert title == "Refused: ticket_reused"
    assert facts["Claim"] == "used before, so refused here"


def test_one_failed_call_lets_no_comment_in(demo, emulator):
    answer = fail(demo, emulator, "unanswered", "/comment")
    assert (answer.status_code, answer.json()["code"]) == (503, "verifier_unavailable")
    title, facts = step(trace(demo, answer), "Tencent")
    assert (title, facts["Call"]) == ("No verdict", "not read by Tencent")
    assert facts["Failure"] == "OutageError: Tencent answered HTTP 503"


def test_comments_are_let_in_unchecked_during_an_outage(demo, emulator):
    answer = fail(demo, emulator, "down", "/comment")
    assert (answer.status_code, answer.json()["unchecked"]) == (200, "unavailable")
    timeline = trace(demo, answer)
    assert states(timeline) == "ok warn skipped skipped warn"
    title, _ = step(timeline, "Verifier")
    assert title == "Not called: probes found that Tencent is down"


def test_an_outage_ends_with_the_request_that_met_it(demo, emulator):
    fail(demo, emulator, "down")
    demo.post("/failures/over")
    call = httpx.post(emulator.endpoint).json()
    assert call["Response"]["Error"]["Code"] == "MissingParameter"


def test_the_wait_for_an_outage_is_bounded(demo, emulator, monkeypatch):
    monkeypatch.setattr("tcaptcha_middleware.demo.site._PATIENCE", 0.1)
    monkeypatch.setattr(monitor, "INTERVAL", 10.0)
    assert fail(demo, emulator, "down").json()["code"] == "verifier_unavailable"


def test_a_challenge_or_a_load_can_fail_without_a_call(demo, emulator):
    for name, outcome in WITHOUT_CALL.items():
        demo.post(f"/failures/{name}")
        assert challenge(emulator)["outcome"] == outcome
    demo.post("/failures/unloadable")
    loads = [httpx.get(f"{emulator.endpoint}/TJCaptcha.js").status_code for _ in range(2)]
    assert loads == [503, 200]


def test_an_unknown_failure_is_not_found(demo, emulator):
    assert demo.post("/failures/nothing").status_code == 404
    assert challenge(emulator)["outcome"] == "solve"


# -- The timeline ------


def test_the_timeline_of_a_login_goes_from_the_server_to_the_handler(demo, emulator):
    pair = emulator.mint()
    answer = demo.post("/login", data={"user": "Ada", **pair})
    assert answer.json() == {
        "user": "Ada",
        "rule": "POST /login",
        "captchaCode": 1,
        "unchecked": None,
    }
    timeline = trace(demo, answer)
    assert [step["who"] for step in timeline["steps"]] == [
        "Server",
        "Gate",
        "Verifier",
        "Tencent",
        "Handler",
    ]
    assert states(timeline) == "ok ok ok ok ok"
    gate, verifier, tencent = (
        step(timeline, who)[1] for who in ("Gate", "Verifier", "Tencent")
    )
    assert (gate["Rule"], gate["Claim"]) == ("POST /login", "first use of this ticket")
    assert (verifier["CaptchaCode"], verifier["EvilLevel"]) == ("1", "0")
    assert tencent["Ticket"] == f"{pair['ticket'][:12]}…"
    assert tencent["CaptchaAppId"] == str(emulator.calls[0]["CaptchaAppId"])
    assert tencent["UserIp"] == emulator.calls[0]["UserIp"]


def test_the_timeline_has_no_secrets_and_no_complete_tickets(demo, emulator):
    pairs = [emulator.mint(), emulator.mint(code=8)]
    answers = [demo.post("/login", headers=in_headers(pair)) for pair in (*pairs, pairs[0])]
    text = "".join(demo.get(f"/trace/{answer.headers['X-Trace']}").text for answer in answers)
    settings = emulator.settings
    secrets = [settings["app_secret_key"], settings["secret_key"], settings["secret_id"]]
    assert not [word for word in chain(secrets, (p["ticket"] for p in pairs)) if word in text]


SOURCES = {
    "in the headers X-Captcha-…": ("POST", "/login", lambda p: {"headers": in_headers(p)}),
    "in the form's fields": ("POST", "/login", lambda p: {"data": p}),
    "in the challenge's two cookies": ("GET", "/report", lambda p: {"headers": in_cookies(p)}),
    "not found": ("POST", "/comment", lambda p: {}),
}


@pytest.mark.parametrize(("source", "request_for"), SOURCES.items(), ids=SOURCES)
def test_the_timeline_shows_the_source_of_the_pair(demo, emulator, source, request_for):
    method, path, arguments = request_for
    answer = demo.request(method, path, **arguments(emulator.mint()))
    assert step(trace(demo, answer), "Gate")[1]["Pair"] == source


def test_with_an_account_the_timeline_shows_what_the_verifier_sent(emulator):
    pair = emulator.mint(code=21)
    with TestClient(site(verifier_of(emulator))) as client:
        timeline = trace(client, client.post("/login", data=pair))
        emulator.script({"status": 503})
        down = trace(client, client.post("/login", data=emulator.mint()))
    title, facts = step(timeline, "Tencent")
    assert title.startswith("Returned 21")
    assert facts == {
        "CaptchaAppId": "190000000",
        "Ticket": f"{pair['ticket'][:12]}…",
        "Randstr": pair["randstr"],
        "UserIp": "127.0.0.1",
    }
    assert "Call" not in step(down, "Tencent")[1]


def test_an_unprotected_request_has_no_trace(demo):
    assert "X-Trace" not in demo.get("/").headers
    assert demo.get("/trace/0").status_code == 404


def test_the_oldest_traces_are_forgotten(demo):
    answers = [demo.post("/login") for _ in range(201)]
    first, second = (demo.get(f"/trace/{a.headers['X-Trace']}") for a in answers[:2])
    assert (first.status_code, second.status_code) == (404, 200)
