"""A refusal as status, headers and body, in the media type that the client prefers."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import Reason, RequestInfo
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
]


def request(accept: str, method: str = "POST") -> RequestInfo:
    return RequestInfo("http", method, "/", headers=((b"accept", accept.encode("latin-1")),))


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
    assert headers["Vary"] == "Accept"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert reason.value.encode() in answer.body
    assert b"<script" not in answer.body
