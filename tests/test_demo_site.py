"""The demo's server, without a browser: what it serves, how it is steered, what it tells."""

from __future__ import annotations

import re
from itertools import chain

import httpx
import pytest
from starlette.testclient import TestClient

from tcaptcha_middleware import TencentVerifier
from tcaptcha_middleware.demo.site import admitted, site
from tcaptcha_middleware.testing import TencentEmulator

HTML = {"Accept": "text/html"}


@pytest.fixture
def emulator():
    emulator = TencentEmulator()
    with emulator.serve() as emulator.endpoint:
        yield emulator


def verifier_of(emulator, **more):
    script = f"{emulator.endpoint}/TJCaptcha.js"
    return TencentVerifier(
        **emulator.settings, endpoint=emulator.endpoint, script=script, **more
    )


@pytest.fixture
def demo(emulator):
    with TestClient(site(verifier_of(emulator), emulator)) as client:
        yield client


def challenge(emulator):
    """Ask for a challenge, as the stand-in's script does."""
    said = {"script": "TJCaptcha.js", "appId": "190000000", "options": {}}
    return httpx.post(f"{emulator.endpoint}/__emulator__/challenge", json=said).json()


def in_headers(pair):
    return {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}


def in_cookies(pair):
    return HTML | {
        "Cookie": "; ".join(f"tcaptcha_{k}={pair[k]}" for k in ("ticket", "randstr"))
    }


def fail(demo, emulator, order, path="/login"):
    assert demo.post(f"/steer/{order}").status_code == 204
    return demo.post(path, headers=in_headers(challenge(emulator)))


def trace(demo, answer):
    return demo.get(f"/trace/{answer.headers['X-Trace']}").json()


def states(told):
    return " ".join(step["state"] for step in told["steps"])


def step(told, who):
    (found,) = [step for step in told["steps"] if step["who"] == who]
    return found["title"], dict(found["facts"])


# -- What is served ------


@pytest.mark.parametrize(
    ("path", "kind"),
    {"/page.css": "text/css", "/page.js": "text/javascript", "/icon.svg": "image/svg"}.items(),
)
def test_the_page_stands_on_its_own_files(demo, path, kind):
    assert path in demo.get("/").text
    assert demo.get(path).headers["content-type"].startswith(kind)


def test_offline_the_policy_lets_nothing_run_inline(demo):
    policy = demo.get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy


def test_with_an_account_inline_styles_alone_are_let_in_which_tencents_script_needs(emulator):
    with TestClient(site(verifier_of(emulator))) as client:
        policy = client.get("/").headers["content-security-policy"]
    assert re.findall(r"([a-z-]+) [^;]*'unsafe-inline'", policy) == ["style-src"]


def test_with_an_account_nothing_can_be_steered(emulator):
    with TestClient(site(verifier_of(emulator))) as client:
        assert client.post("/steer/down").status_code == 404
        assert 'data-judge="tencent"' in client.get("/").text


def test_the_report_leads_back_to_its_own_story(demo, emulator):
    answer = demo.get("/report", headers=in_cookies(emulator.mint()))
    assert answer.status_code == 200
    assert f"/?trace={answer.headers['X-Trace']}" in answer.text


def test_no_handler_greets_anybody_who_was_not_checked():
    with pytest.raises(RuntimeError, match="gate"):
        admitted({"type": "http"})


# -- How it is steered ------

FAILURES = {
    "expired": (403, "ticket_expired", "ok ok refused refused skipped"),
    "forged": (403, "ticket_rejected", "ok ok refused refused skipped"),
    "foreign": (500, "misconfigured", "ok ok refused refused skipped"),
    "malicious": (403, "risk_denied", "ok ok refused refused skipped"),
    "risky": (403, "risk_denied", "ok ok refused refused skipped"),
    "down": (503, "verifier_unavailable", "ok ok refused refused skipped"),
    "throttled": (503, "overloaded", "ok ok refused refused skipped"),
}


@pytest.mark.parametrize(("order", "expected"), FAILURES.items(), ids=FAILURES)
def test_a_failure_is_answered_and_told(demo, emulator, order, expected):
    answer = fail(demo, emulator, order)
    told = trace(demo, answer)
    assert (answer.status_code, answer.json()["code"], states(told)) == expected
    assert (told["status"], told["reason"], told["outcome"]) == (*expected[:2], "refused")
    assert demo.post("/login", headers=in_headers(challenge(emulator))).status_code == 200


def test_an_evil_level_is_told_beside_the_code(demo, emulator):
    told = trace(demo, fail(demo, emulator, "malicious"))
    assert step(told, "Tencent")[0] == "Said 1 with evil level 100, “OK”"


def test_a_ticket_that_is_sent_twice_goes_no_further_than_the_gate(demo, emulator):
    pair = emulator.mint()
    demo.post("/login", data=pair)
    told = trace(demo, demo.post("/login", data=pair))
    assert states(told) == "ok refused skipped skipped skipped"
    title, facts = step(told, "Gate")
    assert title == "Refused: ticket_reused"
    assert facts["Claim"] == "used before, so refused here"


def test_comments_are_let_in_unchecked_while_tencent_is_down(demo, emulator):
    answer = fail(demo, emulator, "down", "/comment")
    assert (answer.status_code, answer.json()["unchecked"]) == (200, "unavailable")
    told = trace(demo, answer)
    assert states(told) == "ok ok warn refused warn"
    assert step(told, "Tencent")[1]["Call"] == "not read by Tencent"
    assert step(told, "Tencent")[1]["Failure"] == "OutageError: Tencent answered HTTP 503"


def test_after_five_outages_tencent_is_left_alone_and_nothing_is_left_over(demo, emulator):
    for _ in range(5):
        fail(demo, emulator, "down")
    refused, let_in = fail(demo, emulator, "down"), fail(demo, emulator, "down", "/comment")
    assert (refused.status_code, let_in.status_code) == (503, 200)
    assert states(trace(demo, refused)) == "ok refused skipped skipped skipped"
    assert states(trace(demo, let_in)) == "ok warn skipped skipped warn"
    for told in (trace(demo, refused), trace(demo, let_in)):
        assert "five calls in a row failed" in step(told, "Verifier")[0]
    call = httpx.post(emulator.endpoint).json()
    assert call["Response"]["Error"]["Code"] == "MissingParameter"


def test_a_challenge_and_a_load_can_be_steered_alone(demo, emulator):
    for order, outcome in (("closed", "close"), ("broken", "error"), ("replayed", "skip")):
        demo.post(f"/steer/{order}")
        assert challenge(emulator)["outcome"] == outcome
    demo.post("/steer/unloadable")
    loads = [httpx.get(f"{emulator.endpoint}/TJCaptcha.js").status_code for _ in range(2)]
    assert loads == [503, 200]


def test_an_unknown_order_is_none(demo, emulator):
    assert demo.post("/steer/nothing").status_code == 404
    assert challenge(emulator)["outcome"] == "solve"


# -- The story ------


def test_a_login_is_told_from_the_server_to_the_handler(demo, emulator):
    pair = emulator.mint()
    answer = demo.post("/login", data={"user": "Ada", **pair})
    assert answer.json() == {
        "user": "Ada",
        "rule": "POST /login",
        "captchaCode": 1,
        "unchecked": None,
    }
    told = trace(demo, answer)
    assert [step["who"] for step in told["steps"]] == [
        "Server",
        "Gate",
        "Verifier",
        "Tencent",
        "Handler",
    ]
    assert states(told) == "ok ok ok ok ok"
    gate, verifier, tencent = (step(told, who)[1] for who in ("Gate", "Verifier", "Tencent"))
    assert (gate["Rule"], gate["Claim"]) == ("POST /login", "first use of this ticket")
    assert (verifier["CaptchaCode"], verifier["EvilLevel"]) == ("1", "0")
    assert tencent["Ticket"] == f"{pair['ticket'][:12]}…"
    assert tencent["CaptchaAppId"] == str(emulator.calls[0]["CaptchaAppId"])
    assert tencent["UserIp"] == emulator.calls[0]["UserIp"]


def test_no_secret_and_no_whole_ticket_is_told(demo, emulator):
    pairs = [emulator.mint(), emulator.mint(code=8)]
    answers = [demo.post("/login", headers=in_headers(pair)) for pair in (*pairs, pairs[0])]
    text = "".join(demo.get(f"/trace/{answer.headers['X-Trace']}").text for answer in answers)
    settings = emulator.settings
    kept = [settings["app_secret_key"], settings["secret_key"], settings["secret_id"]]
    assert not [word for word in chain(kept, (p["ticket"] for p in pairs)) if word in text]


PLACES = {
    "in the headers X-Captcha-…": ("POST", "/login", lambda p: {"headers": in_headers(p)}),
    "in the form's fields": ("POST", "/login", lambda p: {"data": p}),
    "in the challenge's two cookies": ("GET", "/report", lambda p: {"headers": in_cookies(p)}),
    "found nowhere": ("POST", "/comment", lambda p: {}),
}


@pytest.mark.parametrize(("place", "sent"), PLACES.items(), ids=PLACES)
def test_where_the_pair_was_found_is_told(demo, emulator, place, sent):
    method, path, how = sent
    answer = demo.request(method, path, **how(emulator.mint()))
    assert step(trace(demo, answer), "Gate")[1]["Pair"] == place


def test_with_an_account_the_story_is_what_the_verifier_was_told(emulator):
    pair = emulator.mint(code=21)
    with TestClient(site(verifier_of(emulator))) as client:
        told = trace(client, client.post("/login", data=pair))
        emulator.script({"status": 503})
        down = trace(client, client.post("/login", data=emulator.mint()))
    title, facts = step(told, "Tencent")
    assert title.startswith("Said 21")
    assert facts == {
        "CaptchaAppId": "190000000",
        "Ticket": f"{pair['ticket'][:12]}…",
        "Randstr": pair["randstr"],
        "UserIp": "127.0.0.1",
    }
    assert "Call" not in step(down, "Tencent")[1]


def test_what_is_not_covered_has_no_story(demo):
    assert "X-Trace" not in demo.get("/").headers
    assert demo.get("/trace/0").status_code == 404


def test_the_oldest_stories_are_forgotten(demo):
    answers = [demo.post("/login") for _ in range(201)]
    first, second = (demo.get(f"/trace/{a.headers['X-Trace']}") for a in answers[:2])
    assert (first.status_code, second.status_code) == (404, 200)
