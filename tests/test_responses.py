"""A refusal as status, headers and body, in the media type that the client prefers."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import Reason, RequestInfo
from tcaptcha_middleware.languages import BACK, DETAILS, NOSCRIPT, TITLES
from tcaptcha_middleware.responses import respond

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"
AXIOS = "application/json, text/plain, */*"
PREFERRED = [
    ("", "application/problem+json"),
    ("*/*", "application/problem+json"),
    (BROWSER, "text/html"),
    (AXIOS, "application/problem+json"),
    ("application/json", "application/problem+json"),
    ("application/problem+json", "application/problem+json"),
    ("text/plain", "text/plain"),
    ("text/*", "text/html"),
    ("text/html;q=0.5, application/json;q=0.4", "text/html"),
    ("text/html;q=0.4, application/json;q=0.5", "application/problem+json"),
    ("text/html;q=0, */*", "application/problem+json"),
    ("text/html;level=1;q=1, */*;q=0.1", "text/html"),
    ("TEXT/HTML", "text/html"),
    ("text/html;q=x", "application/problem+json"),
    ("image/png", "application/problem+json"),
    ("text/html;q=9", "text/html"),
    (";;;,,,q=", "application/problem+json"),
    ("a/b," * 250 + "text/html", "text/html"),
    ("a/b," * 255 + "text/html", "application/problem+json"),  # cut after 1024 characters
]


def request(accept: str, method: str = "POST", language: str = "") -> RequestInfo:
    headers = {"accept": accept, "accept-language": language}
    raw = tuple((name.encode(), value.encode("latin-1")) for name, value in headers.items())
    return RequestInfo("http", method, "/", headers=raw)


@pytest.mark.parametrize(("accept", "media_type"), PREFERRED)
def test_the_client_gets_the_media_type_that_it_prefers(accept, media_type):
    headers = dict(respond(Reason.TICKET_MISSING, request(accept)).headers)
    assert headers["Content-Type"].split(";")[0] == media_type


@given(st.text(st.characters(max_codepoint=255)))
def test_no_accept_header_raises(accept):
    respond(Reason.TICKET_MISSING, request(accept))


# The contract: reason, status, and if the response has a Retry-After header.
CONTRACT = [
    ("ticket_missing", 403, False),
    ("ticket_rejected", 403, False),
    ("ticket_expired", 403, False),
    ("ticket_reused", 403, False),
    ("risk_denied", 403, False),
    ("disaster_ticket", 403, False),
    ("ticket_malformed", 400, False),
    ("ticket_ambiguous", 400, False),
    ("target_ambiguous", 400, False),
    ("request_malformed", 400, False),
    ("body_too_large", 413, False),
    ("verifier_unavailable", 503, True),
    ("overloaded", 503, True),
    ("misconfigured", 500, False),
]


def test_the_table_names_every_reason():
    assert [code for code, _, _ in CONTRACT] == list(Reason)


@pytest.mark.parametrize(("code", "status", "retry"), CONTRACT)
def test_every_reason_is_a_problem_document(code, status, retry):
    answer = respond(Reason(code), request("*/*"))
    headers = dict(answer.headers)
    problem = json.loads(answer.body)
    assert answer.status == problem["status"] == status
    assert problem["code"] == code
    assert problem["detail"] == Reason(code).detail
    assert problem["type"] == "about:blank"
    assert ("Retry-After" in headers) is retry


@pytest.mark.parametrize("accept", ["*/*", "text/html", "text/plain"])
@pytest.mark.parametrize("reason", Reason, ids=str)
def test_no_response_may_be_cached_sniffed_or_executed(reason, accept):
    answer = respond(reason, request(accept))
    headers = dict(answer.headers)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Vary"] == "Accept, Accept-Language"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert reason.value.encode() in answer.body
    for tag in ("script", "style"):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), answer.body, re.DOTALL)
        assert answer.body.count(f"<{tag}".encode()) == len(texts)
        allowed = re.findall(f"{tag}-src 'sha256-(.*?)'", headers["Content-Security-Policy"])
        assert [b64encode(sha256(text).digest()).decode() for text in texts] == allowed


LANGUAGES = [
    ("", "en"),
    ("en-GB", "en"),
    ("zh", "zh-cn"),
    ("zh-CN,zh;q=0.9,en;q=0.8", "zh-cn"),
    ("zh-SG", "zh-cn"),
    ("zh-TW", "zh-tw"),
    ("zh-HK,zh;q=0.9", "zh-tw"),
    ("zh-MO", "zh-tw"),
    ("zh-Hant-CN", "zh-tw"),
    ("zh-Hans-TW", "zh-cn"),
    ("de, zh-TW;q=0.5, en;q=0.4", "zh-tw"),
    ("zh;q=0.4, en;q=0.5", "en"),
    ("zh;q=0, en;q=0.1", "en"),
    ("zh;q=0", "en"),
    ("zh;q=x", "en"),
    ("ja, ko", "en"),
    ("*", "en"),
    (";,;q=,zh;q", "en"),
    ("zh;q=0.4;a=b, en;a=b;q=0.3", "zh-cn"),
    ("zz," * 90 + "zh", "en"),
]


@pytest.mark.parametrize(("accepted", "language"), LANGUAGES)
@pytest.mark.parametrize("accept", ["*/*", "text/html", "text/plain"])
@pytest.mark.parametrize("reason", Reason, ids=str)
def test_a_refusal_is_in_the_visitors_language(accept, accepted, language, reason):
    answer = respond(reason, request(accept, language=accepted))
    assert dict(answer.headers)["Content-Language"] == language
    detail = DETAILS[language][reason]
    body = answer.body.decode()
    assert detail in (json.loads(body)["detail"] if accept == "*/*" else unescape(body))
    assert reason.value in body
    if accept == "text/html":
        assert f'<html lang="{language}">' in body
        assert body.count("<main>") == body.count("</main>") == 1


def test_every_language_has_words_for_every_reason_and_status():
    for language in ("en", "zh-cn", "zh-tw"):
        assert DETAILS[language].keys() == set(Reason)
        assert TITLES[language].keys() == {reason.status for reason in Reason}
    assert DETAILS.keys() == TITLES.keys() == BACK.keys() == NOSCRIPT.keys()


@pytest.mark.parametrize("method", ["POST", "PUT", "get", "GET", "HEAD"])
def test_only_a_refused_form_offers_the_way_back(method):
    body = respond(Reason.TICKET_MISSING, request("text/html", method)).body.decode()
    assert ("Go back</button>" in body) == (method.upper() not in ("GET", "HEAD"))


def test_without_scripts_a_refused_form_shows_no_button():
    body = respond(Reason.TICKET_MISSING, request("text/html")).body.decode()
    assert re.findall("<button.*?>", body) == ["<button hidden>"]


@given(st.text(st.characters(max_codepoint=255)))
def test_no_accept_language_header_raises(accepted):
    respond(Reason.TICKET_MISSING, request("", language=accepted))
