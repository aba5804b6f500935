"""The gate's own answers for frontends: the header with the code, and CORS."""

from __future__ import annotations

import json

import flask
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    PlainResponse,
    Reason,
    Refuse,
    RequestInfo,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    sources,
)
from tcaptcha_middleware.testing import FakeVerifier

ORIGIN = "https://www.example.com"
PREFLIGHT = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
HTML = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}


class Answer:
    """A response as both clients have it, with the names of headers in lower case."""

    def __init__(self, status, headers, body):
        self.status, self.body = status, body
        self.headers = [(name.lower(), value) for name, value in headers]

    def values(self, name):
        return [value for key, value in self.headers if key == name.lower()]


def through_asgi(guard, method, path, headers):
    async def inside(request):
        return PlainTextResponse("inside")

    app = Starlette(routes=[Route("/{rest:path}", inside, methods=["GET", "POST", "OPTIONS"])])
    with TestClient(TCaptchaMiddleware(app, guard)) as client:
        answer = client.request(method, path, headers=headers)
    return Answer(answer.status_code, answer.headers.multi_items(), answer.text)


def through_wsgi(guard, method, path, headers):
    app = flask.Flask(__name__)
    app.add_url_rule("/<path:rest>", "inside", lambda rest: "inside", methods=["GET", "POST"])
    app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, guard)
    answer = app.test_client().open(path, method=method, headers=headers)
    return Answer(answer.status_code, answer.headers.items(), answer.text)


every_adapter = pytest.mark.parametrize(
    "send", [through_asgi, through_wsgi], ids=["asgi", "wsgi"]
)


def respond(send):
    """Return a responder that answers with an application of the adapter's kind."""
    if send is through_asgi:
        return lambda request, refuse: PlainTextResponse("no", status_code=418)

    def app(environ, start_response):
        start_response("418 I'm a Teapot", [("Content-Type", "text/plain")])
        return [b"no"]

    return lambda request, refuse: app


@every_adapter
@pytest.mark.parametrize("headers", [{}, HTML, {"Accept": "text/plain"}], ids=repr)
def test_every_refusal_has_the_code_in_a_header(send, headers):
    answer = send(Guard(["POST /login"], FakeVerifier()), "POST", "/login", headers)
    assert answer.values("Tcaptcha-Code") == ["ticket_missing"]
    assert answer.status == 403


@pytest.mark.parametrize("responder", [None, lambda request, refuse: PlainResponse(403)])
@pytest.mark.parametrize("reason", Reason)
def test_the_code_of_each_reason_is_added(reason, responder):
    guard = Guard(["POST /login"], FakeVerifier(), responder=responder)
    request = RequestInfo("http", "POST", "/login")
    _, added = guard.answer(guard.match("POST", "/login"), request, Refuse(reason, "/login"))
    assert [value for name, value in added if name == "Tcaptcha-Code"] == [reason.value]


@every_adapter
def test_a_responder_does_not_have_to_send_the_code(send):
    plain = Rule("/plain", responder=lambda request, refuse: PlainResponse(403, [], b"no"))
    guard = Guard([plain, "POST /login"], FakeVerifier(), responder=respond(send))
    for path, status in (("/plain", 403), ("/login", 418)):
        answer = send(guard, "POST", path, {})
        assert (answer.status, answer.body) == (status, "no")
        assert answer.values("Tcaptcha-Code") == ["ticket_missing"]


@every_adapter
def test_a_challenge_has_the_code_too(send):
    guard = Guard(["/report"], FakeVerifier(), page="/tcaptcha")
    headers = HTML | {"Sec-Fetch-Dest": "document"}
    answer = send(guard, "GET", "/report", headers)
    assert "<script" in answer.body
    assert answer.values("Tcaptcha-Code") == ["ticket_missing"]


@every_adapter
def test_the_application_answers_without_the_code(send):
    answer = send(Guard(["POST /login"], FakeVerifier()), "POST", "/other", {})
    assert (answer.body, answer.values("Tcaptcha-Code")) == ("inside", [])


ALLOW, CREDENTIALS = "Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"
EXPOSE = "Access-Control-Expose-Headers"
ORIGINS = {
    "an origin of the list": ([ORIGIN], ORIGIN, [ORIGIN], ["true"]),
    "another origin": ([ORIGIN], "https://evil.example", [], []),
    "a longer origin": ([ORIGIN], f"{ORIGIN}.evil.example", [], []),
    "null": ([ORIGIN], "null", [], []),
    "every origin": (["*"], "https://any.example", ["*"], []),
    "one of the list beside every origin": (["*", ORIGIN], ORIGIN, [ORIGIN], ["true"]),
    "no origins": ([], ORIGIN, [], []),
}


@every_adapter
@pytest.mark.parametrize("path", ["/login", "/tcaptcha/settings.json?for=POST%20/login"])
@pytest.mark.parametrize("row", ORIGINS.values(), ids=ORIGINS)
def test_only_allowed_origins_may_read_the_gates_answers(send, path, row):
    cors, origin, allowed, credentials = row
    guard = Guard(["POST /login"], FakeVerifier(), page="/tcaptcha", cors=cors)
    method = "POST" if path == "/login" else "GET"
    answer = send(guard, method, path, {"Origin": origin})
    assert answer.values(ALLOW) == allowed
    assert answer.values(CREDENTIALS) == credentials
    assert answer.values(EXPOSE) == ["Tcaptcha-Code"] * len(allowed)
    varies = "Origin" in ", ".join(answer.values("Vary"))
    assert varies == (bool(cors) and allowed != ["*"])


@every_adapter
def test_a_request_of_the_same_origin_gets_no_cors_headers(send):
    guard = Guard(["POST /login"], FakeVerifier(), cors=[ORIGIN])
    answer = send(guard, "POST", "/login", {})
    assert answer.values(ALLOW) == []
    assert "Origin" in answer.values("Vary")


@every_adapter
def test_the_module_is_for_every_origin_once(send):
    guard = Guard(["/a"], FakeVerifier(), page="/tcaptcha", cors=[ORIGIN])
    answer = send(guard, "GET", "/tcaptcha/tcaptcha.js", {"Origin": ORIGIN})
    assert answer.values(ALLOW) == ["*"]


@every_adapter
def test_the_answer_to_a_preflight_allows_the_tickets_headers(send):
    own = Rule("POST /own", sources=[sources.Header("T", "R"), sources.Json()])
    no_header = Rule("POST /form", sources=[sources.Form()])
    guard = Guard([own, no_header, "POST /login"], FakeVerifier(), cors=[ORIGIN])
    for path in ("/login", "/own", "/other"):
        answer = send(guard, "OPTIONS", path, PREFLIGHT)
        names = answer.values("Access-Control-Allow-Headers")
        assert names == ["T, R, X-Captcha-Ticket, X-Captcha-Randstr"]
    assert send(guard, "POST", "/other", {}).values("Access-Control-Allow-Headers") == []


@every_adapter
def test_without_a_source_in_headers_a_preflight_gets_none(send):
    guard = Guard(["/a"], FakeVerifier(), sources=[sources.Form()], cors=[ORIGIN])
    answer = send(guard, "OPTIONS", "/a", PREFLIGHT)
    assert answer.values("Access-Control-Allow-Headers") == []


@every_adapter
def test_without_cors_the_answer_to_a_preflight_is_the_applications(send):
    answer = send(Guard(["POST /login"], FakeVerifier()), "OPTIONS", "/login", PREFLIGHT)
    assert answer.values("Access-Control-Allow-Headers") == []


@every_adapter
def test_a_captcha_that_cannot_be_shown_is_reported_to_other_origins_too(send):
    hidden = FakeVerifier()
    hidden.captcha = type(hidden.captcha)()
    rules = ["/a", Rule("/hidden", verifier=hidden)]
    guard = Guard(rules, FakeVerifier(), page="/tcaptcha", cors=[ORIGIN])
    target = "/tcaptcha/settings.json?for=GET%20/hidden"
    answer = send(guard, "GET", target, {"Origin": ORIGIN})
    assert (answer.status, answer.values(ALLOW)) == (404, [ORIGIN])
    assert "captcha of this rule" in json.loads(answer.body)["detail"]


BAD_ORIGINS = {
    "a text": (ORIGIN, "has to be a list"),
    "a number": (1, r'such as \["https://www.example.com"\]'),
    "a path": ([f"{ORIGIN}/"], "without a path or a slash"),
    "no scheme": (["www.example.com"], "write an origin as browsers send it"),
    "capitals": (["https://WWW.example.com"], "write an origin"),
    "a wildcard within": (["https://*.example.com"], "write an origin"),
    "two lines": ([f"{ORIGIN}\r\nX: 1"], "write an origin"),
    "the scheme's own port": (["https://www.example.com:443"], "the scheme's own"),
    "HTTP's own port": (["http://www.example.com:80"], "the scheme's own"),
    "no such port": (["https://www.example.com:65536"], "write an origin"),
    "a zero before the port": (["https://www.example.com:0443"], "write an origin"),
    "None": ([None], "write an origin"),
}


@pytest.mark.parametrize(("cors", "message"), BAD_ORIGINS.values(), ids=BAD_ORIGINS)
def test_an_origin_that_no_browser_sends_is_a_configuration_error(cors, message):
    with pytest.raises(ConfigurationError, match=message):
        Guard(["/a"], FakeVerifier(), cors=cors)
