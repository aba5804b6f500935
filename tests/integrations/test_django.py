"""The middleware inside Django, met by Django's own test clients."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import socket

import httpx
import pytest
from adapters import Exchange, call_asgi, call_wsgi, environ_of, messages_of, scope_of
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, JsonResponse
from django.test import AsyncClient, Client, LiveServerTestCase, override_settings
from django.urls import path, re_path
from django_inside import BEHIND, CAPTCHA, project
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.test import APIClient

from tcaptcha_middleware import (
    CaptchaRequired,
    Guard,
    PlainResponse,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    get_decision,
    require_captcha,
)
from tcaptcha_middleware.integrations.django import CaptchaMiddleware
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.testing import FakeVerifier

FAKE = "tcaptcha_middleware.testing.FakeVerifier"
CONFIG = {"RULES": ["UNSAFE /login"], "VERIFIER": FAKE, "PAGE": "/tcaptcha"}
PAIR = {"ticket": "tr03good", "randstr": "@r"}
HEADERS = {"X-Captcha-Ticket": "tr03good", "X-Captcha-Randstr": "@r"}
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Dest": "document"}


def login(request, **_):
    decision = require_captcha(request)
    files = {name: len(file.read()) for name, file in request.FILES.items()}
    seen = {"rule": decision.rule, "user": request.POST.get("user"), "files": files}
    return JsonResponse(seen | {"method": request.method})


def echo(request, **_):
    return HttpResponse(request.read(), headers={"X-Decision": str(get_decision(request))})


URLS = [path("login", login), re_path("^(?P<rest>.*)$", echo)]


def through(kind, method, target, **arguments):
    """Send a request with the test client of a stack of `BEHIND`."""
    if kind.startswith("sync"):
        return getattr(Client(), method)(target, **arguments)
    current_guard()  # a handler makes it before there is an event loop, unlike this client

    async def send():
        return await getattr(AsyncClient(), method)(target, **arguments)

    return asyncio.run(send())


@pytest.fixture(params=BEHIND)
def send(request):
    """Send requests through a stack to a project with `CONFIG`, or another one."""

    def send(method, target, *, config=CONFIG, urls=URLS, before=(), more=None, **arguments):
        with project(urls, config, BEHIND[request.param], before, **more or {}):
            return through(request.param, method, target, **arguments)

    return send


# -- Django's clients ------


def test_a_request_without_a_ticket_never_reaches_its_view(send):
    response = send("post", "/login", data={"user": "Ada"})
    assert (response.status_code, response.json()["code"]) == (403, "ticket_missing")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"


def test_a_pair_in_the_headers_or_the_form_opens_the_view(send):
    seen = {"rule": "UNSAFE /login", "user": "Ada", "files": {}, "method": "POST"}
    assert send("post", "/login", headers=HEADERS, data={"user": "Ada"}).json() == seen
    assert send("post", "/login", data=PAIR | {"user": "Ada"}).json() == seen
    form = {"content_type": "application/x-www-form-urlencoded"}
    text = "user=Ada&ticket=tr03good&randstr=@r"
    assert send("post", "/login", data=text, **form).json() == seen


def test_other_paths_and_safe_methods_pass(send):
    assert send("post", "/other", data={"a": 1}).status_code == 200
    assert send("get", "/echo").headers["X-Decision"] == "None"
    assert send("get", "/other?ticket=1").status_code == 200


def test_django_rest_frameworks_client_meets_the_gate():
    @api_view(["POST"])
    def view(request):
        return Response(request.data | {"rule": require_captcha(request).rule})

    with project([path("login", view)], CONFIG):
        client = APIClient()
        assert client.post("/login", {}, format="json").json()["code"] == "ticket_missing"
        answer = client.post("/login", PAIR | {"user": "Ada"}, format="json")
        assert answer.json()["rule"] == "UNSAFE /login"
        assert answer.json()["user"] == "Ada"


# -- the body ------


@pytest.mark.parametrize("size", [10, 5_000, 3_000_000])
def test_an_upload_reaches_its_view_as_it_was_sent(send, size):
    picture = SimpleUploadedFile("ada.png", os.urandom(size))
    response = send("post", "/login", data=PAIR | {"user": "Ada", "picture": picture})
    assert response.json()["files"] == {"picture": size}
    assert response.json()["user"] == "Ada"


def test_an_upload_that_is_refused_is_not_read_as_a_whole(send):
    picture = SimpleUploadedFile("ada.png", os.urandom(200_000))
    response = send("post", "/login", data={"picture": picture})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    "read",
    [
        lambda request: request.body,
        lambda request: request.read(),
        lambda request: request.read(3) + request.read(5_000) + request.read(),
        b"".join,
        lambda request: (
            request.readline() + request.readline(2) + b"".join(request.readlines())
        ),
        lambda request: request.body + (b"" if request.read(1) else b"again"),
    ],
    ids=["body", "read", "read pieces", "lines", "single lines", "body, then read"],
)
def test_a_body_is_the_same_whichever_way_it_is_read(send, read):
    body = json.dumps(PAIR | {"text": "a\nb" * 1_000}, indent=1).encode()
    urls = [path("login", lambda request: HttpResponse(read(request)))]
    response = send("post", "/login", urls=urls, data=body, content_type="application/json")
    assert response.content.removesuffix(b"again") == body


def test_a_body_that_was_read_before_is_found_again(send):
    response = send("post", "/login", data=PAIR | {"user": "Ada"}, before=["reads_body"])
    assert response.json()["user"] == "Ada"


def test_a_body_that_was_used_up_before_is_refused(send):
    response = send("post", "/login", data=PAIR | {"user": "Ada"}, before=["parses_form"])
    assert response.status_code in (400, 403)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_chunked_body_under_asgi_reaches_the_view(pieces):
    body = json.dumps(PAIR | {"text": "x" * 9_000}).encode()
    size = len(body) // pieces + 1
    parts = tuple(body[at : at + size] for at in range(0, len(body), size))
    headers = (("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
    exchange = Exchange(headers=headers, pieces=parts, target="/login")
    urls = [path("login", lambda request: HttpResponse(request.body))]
    with project(urls, CONFIG):
        start, *rest = call_asgi(ASGIHandler(), scope_of(exchange), messages_of(exchange))
    assert start["status"] == 200
    assert b"".join(message["body"] for message in rest) == body


def test_a_large_body_that_asgi_keeps_in_a_file_reaches_the_view():
    body = b"user=Ada&ticket=tr03good&randstr=@r&text=" + b"x" * 60_000
    headers = (("Content-Type", "application/x-www-form-urlencoded"),)
    exchange = Exchange(headers=headers, pieces=(body[:100], body[100:]))
    with project(URLS, CONFIG, FILE_UPLOAD_MAX_MEMORY_SIZE=1000):
        start, end = call_asgi(ASGIHandler(), scope_of(exchange), messages_of(exchange))
    assert (start["status"], json.loads(end["body"])["user"]) == (200, "Ada")


def test_a_client_that_was_too_slow_is_disconnected_after_the_refusal():
    ours, theirs = socket.socketpair()

    class Input(io.RawIOBase):
        def read(self, size=-1):
            return ours.recv(size)

    headers = (("Content-Type", "application/x-www-form-urlencoded"),)
    environ = environ_of(Exchange(headers=headers, pieces=(b"x",)))
    environ |= {"gunicorn.socket": ours, "wsgi.input": Input(), "CONTENT_LENGTH": "9"}
    with ours, theirs, project(URLS, CONFIG | {"BODY_TIMEOUT": 0.1}):
        answered = []
        response = WSGIHandler()(environ, lambda status, headers: answered.append(status))
        theirs.settimeout(5)
        assert answered == ["400 Bad Request"]
        assert b"request_malformed" in b"".join(response)
        ours.sendall(b"the response")
        assert theirs.recv(100) == b"the response"
        response.close()
        assert theirs.recv(100) == b""


# -- the page ------


def test_the_pages_paths_are_answered_by_the_gate(send):
    module = send("get", "/tcaptcha/tcaptcha.js")
    assert module.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert module.content.startswith(b"//") or b"export" in module.content
    assert send("head", "/tcaptcha/tcaptcha.js").content == b""
    known = {"If-None-Match": module.headers["ETag"]}
    assert send("get", "/tcaptcha/tcaptcha.js", headers=known).status_code == 304
    settings = send("get", "/tcaptcha/settings.json?for=POST%20/login").json()
    assert settings["appId"] == "190000000"
    assert send("post", "/tcaptcha/settings.json").status_code == 405


def test_a_browser_that_opens_a_protected_page_gets_the_challenge(send):
    config = CONFIG | {"RULES": ["GET /report"]}
    response = send("get", "/report", config=config, headers=NAVIGATION)
    assert response.status_code == 403
    assert "Are you human?" in response.content.decode()
    assert "nonce-" in response.headers["Content-Security-Policy"]


def test_below_a_mount_the_page_and_the_rules_are_found():
    exchange = Exchange("GET", "/tcaptcha/tcaptcha.js")
    with project(URLS, CONFIG):
        environ = environ_of(exchange, SCRIPT_NAME="/shop")
        assert call_wsgi(WSGIHandler(), environ)[0] == 200
        environ = environ_of(Exchange("POST", "/login"), SCRIPT_NAME="/shop")
        assert call_wsgi(WSGIHandler(), environ)[0] == 403
        scope = scope_of(Exchange("GET", "/shop/tcaptcha/tcaptcha.js"), root_path="/shop")
        assert call_asgi(ASGIHandler(), scope, messages_of(exchange))[0]["status"] == 200
        scope = scope_of(Exchange("POST", "/shop/login"), root_path="/shop")
        assert call_asgi(ASGIHandler(), scope, messages_of(exchange))[0]["status"] == 403


@pytest.mark.parametrize("rule", ["UNSAFE /login", "UNSAFE /shop/login"])
def test_below_a_forced_script_name_both_paths_are_rules(send, rule):
    more = {"FORCE_SCRIPT_NAME": "/shop"}
    response = send("post", "/login", config=CONFIG | {"RULES": [rule]}, more=more)
    assert response.status_code == 403


# -- what Django sees ------


def test_a_path_and_a_method_that_a_middleware_changed_are_judged(send):
    assert send("post", "/other", before=["rewrites"], headers={"X-Path": "/login"}).json()[
        "code"
    ] == ("ticket_missing")
    response = send("get", "/login", before=["rewrites"], headers={"X-Method": "PUT"})
    assert response.json()["code"] == "ticket_missing"
    response = send("get", "/login", before=["rewrites"], headers=HEADERS | {"X-Method": "PUT"})
    assert response.json()["method"] == "PUT"


def test_an_address_that_a_middleware_has_set_is_the_visitors():
    verifier = FakeVerifier()
    with project(URLS, CONFIG | {"VERIFIER": verifier}, before=["sets_address"]):
        Client().post("/login", headers=HEADERS)
    assert [ticket.user_ip for ticket in verifier.tickets] == ["198.51.100.9"]


def test_a_path_that_is_odd_is_judged_like_a_plain_one():
    for target in ("/login%0a", "//login", "/%6cogin", "/login%ff", "/x/../login"):
        exchange = Exchange("POST", target)
        with project(URLS, CONFIG):
            status, *_ = call_wsgi(WSGIHandler(), environ_of(exchange))
            sent = call_asgi(ASGIHandler(), scope_of(exchange), messages_of(exchange))
        assert (status, sent[0]["status"]) == (403, 403)


def test_a_path_without_a_slash_is_not_glued_to_its_mount():
    scope = scope_of(Exchange("POST", "login"), root_path="/shop")
    with project(URLS, CONFIG | {"RULES": ["POST /login"]}):
        sent = call_asgi(ASGIHandler(), scope, messages_of(Exchange()))
    assert sent[0]["status"] in (403, 404)


@pytest.mark.parametrize("adapter", ["wsgi", "asgi"])
def test_a_guard_around_the_application_is_not_asked_twice(adapter):
    verifier = FakeVerifier()
    guard = Guard(["UNSAFE /login"], verifier)
    headers = tuple(HEADERS.items())
    exchange = Exchange(headers=headers)
    with project(URLS, {"GUARD": guard}):
        if adapter == "wsgi":
            app = TCaptchaWSGIMiddleware(WSGIHandler(), guard)
            status, *_ = call_wsgi(app, environ_of(exchange))
        else:
            app = TCaptchaMiddleware(ASGIHandler(), guard)
            sent = call_asgi(app, scope_of(exchange), messages_of(exchange))
            status = sent[0]["status"]
    assert (status, len(verifier.tickets)) == (200, 1)


# -- hooks and responders ------


def test_a_plain_when_may_do_what_an_event_loop_forbids(send):
    def is_required(info):
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return not info.raw.headers.get("X-Member")

    config = CONFIG | {"RULES": [Rule("UNSAFE /login", when=is_required)]}
    assert send("post", "/login", config=config).status_code == 403
    response = send("post", "/login", config=config, headers={"X-Member": "1"})
    assert response.json()["rule"] == "UNSAFE /login"


@pytest.mark.parametrize("is_plain", [False, True])
def test_an_async_when_is_awaited(is_plain):
    async def is_required(info):
        await asyncio.sleep(0)
        return not info.raw.headers.get("X-Member")

    def plain(info):
        return is_required(info)  # to be awaited, too

    with project(URLS, CONFIG | {"WHEN": plain if is_plain else is_required}):
        assert through("async", "post", "/login").status_code == 403
        assert through("async", "post", "/login", headers={"X-Member": "1"}).status_code == 200


def test_a_when_that_fails_refuses(send, caplog):
    def is_required(info):
        raise ZeroDivisionError

    with caplog.at_level(logging.CRITICAL, "tcaptcha_middleware"):
        response = send("post", "/login", config=CONFIG | {"WHEN": is_required})
    assert (response.status_code, response.json()["code"]) == (500, "misconfigured")


def test_a_responder_returns_a_plain_response(send):
    def responder(info, refuse):
        return PlainResponse(429, [("X-Why", refuse.reason)], b"no")

    response = send("post", "/login", config=CONFIG | {"RESPONDER": responder})
    assert (response.status_code, response.content) == (429, b"no")
    assert response.headers["X-Why"] == "ticket_missing"


def test_a_responder_returns_a_view(send):
    def responder(info, refuse):
        def view(request):
            # Templates that look at the user's session may not run in an event loop.
            with pytest.raises(RuntimeError, match="no running event loop"):
                asyncio.get_running_loop()
            return HttpResponse(
                f"{request.method} {refuse.reason}", status=refuse.reason.status
            )

        return view

    response = send("post", "/login", config=CONFIG | {"RESPONDER": responder})
    assert (response.status_code, response.content) == (403, b"POST ticket_missing")


def test_a_responder_returns_an_async_view(send):
    def responder(info, refuse):
        async def view(request):
            await asyncio.sleep(0)
            return HttpResponse(refuse.reason, status=418)

        return view

    response = send("post", "/login", config=CONFIG | {"RESPONDER": responder})
    assert (response.status_code, response.content) == (418, b"ticket_missing")


def test_repeated_headers_of_a_plain_response_are_sent(send):
    headers = [
        ("Set-Cookie", "a=1; Path=/"),
        ("set-cookie", "b=2"),
        ("Link", "</a>"),
        ("link", "</b>"),
    ]
    config = CONFIG | {"RESPONDER": lambda info, refuse: PlainResponse(403, headers)}
    response = send("post", "/login", config=config)
    assert {name: m.value for name, m in response.cookies.items()} == {"a": "1", "b": "2"}
    assert response.cookies["a"]["path"] == "/"
    assert response.headers["Link"] == "</a>, </b>"


def test_a_view_of_a_responder_that_fails_is_a_500():
    def responder(info, refuse):
        def view(request):
            raise ZeroDivisionError

        return view

    with project(URLS, CONFIG | {"RESPONDER": responder}):
        response = Client(raise_request_exception=False).post("/login")
    assert response.status_code == 500


# -- headers ------

ORIGIN = "https://www.example.com"


def test_every_refusal_has_its_code_in_a_header(send):
    assert send("post", "/login").headers["Tcaptcha-Code"] == "ticket_missing"
    config = CONFIG | {"RESPONDER": lambda info, refuse: lambda request: HttpResponse("no")}
    assert send("post", "/login", config=config).headers["Tcaptcha-Code"] == "ticket_missing"


def test_a_frontend_of_an_allowed_origin_may_read_a_refusal(send):
    response = send(
        "post", "/login", config=CONFIG | {"CORS": [ORIGIN]}, headers={"Origin": ORIGIN}
    )
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert response.headers["Vary"].split(", ")[-1] == "Origin"


def test_the_views_answer_to_a_preflight_allows_the_headers_with_the_pair(send):
    def view(request):
        return HttpResponse(headers={"Access-Control-Allow-Headers": "X-Own", "Vary": "Origin"})

    config, urls = CONFIG | {"CORS": [ORIGIN]}, [path("other", view)]
    allowed = send("options", "/other", config=config, urls=urls).headers
    assert (
        allowed["Access-Control-Allow-Headers"] == "X-Own, X-Captcha-Ticket, X-Captcha-Randstr"
    )
    allowed = send("post", "/other", config=config, urls=urls).headers
    assert allowed["Access-Control-Allow-Headers"] == "X-Own"


def test_a_response_without_a_type_stays_without(send):
    config = CONFIG | {
        "RESPONDER": lambda info, refuse: PlainResponse(400, [("Vary", "A"), ("vary", "B")])
    }
    response = send("post", "/login", config=config)
    assert "Content-Type" not in response.headers
    assert response.headers["Vary"] == "A, B"


# -- without the gate ------


def test_a_view_that_requires_a_captcha_answers_500_without_the_gate(caplog):
    with project(URLS, CONFIG, MIDDLEWARE=[]), caplog.at_level(logging.ERROR):
        with pytest.raises(CaptchaRequired, match="no rule of the gate covered this request"):
            Client().post("/login")
        assert Client(raise_request_exception=False).post("/login").status_code == 500
    assert any("refused: no rule of the gate" in record.message for record in caplog.records)


def test_a_request_that_is_cancelled_gives_its_slot_back():
    class Hanging:
        async def averify(self, ticket):
            await asyncio.Event().wait()

    guard = Guard(["POST /login"], Hanging())

    async def main():
        client = AsyncClient()
        task = asyncio.create_task(client.post("/login", headers=HEADERS))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with project(URLS, {"GUARD": guard}):
        asyncio.run(main())
    (rule,) = guard._rules
    assert rule.health.slots._taken == 0


def test_both_capabilities_are_declared():
    assert CaptchaMiddleware.sync_capable
    assert CaptchaMiddleware.async_capable


@override_settings(
    MIDDLEWARE=[CAPTCHA], TCAPTCHA=CONFIG, ROOT_URLCONF=tuple(URLS), STATIC_URL="/static/"
)
class TestLiveServer(LiveServerTestCase):
    databases = ()

    def test_djangos_live_server_has_the_gate(self):
        with httpx.Client(base_url=self.live_server_url, trust_env=False) as client:
            assert client.post("/login").json()["code"] == "ticket_missing"
            answer = client.post("/login", data=PAIR | {"user": "Ada"})
            assert answer.json()["user"] == "Ada"
            with override_settings(TCAPTCHA=CONFIG | {"RULES": ["POST /other"]}):
                assert client.post("/other").status_code == 403


MIDDLEWARES = [
    CAPTCHA,
    "tcaptcha_middleware.integrations.django.middleware.CaptchaMiddleware",
    "django_inside.Subclass",
]


@pytest.mark.parametrize("middleware", MIDDLEWARES)
def test_tcaptcha_check_finds_the_guard_in_the_settings(middleware):
    with project(URLS, CONFIG, MIDDLEWARE=["django_inside.async_only", middleware]):
        rows = [
            (finding.status, finding.path, finding.rule) for finding in check(WSGIHandler())
        ]
    assert rows[0] == ("covered", "/login", "UNSAFE /login")


def test_a_response_that_varies_by_everything_stays_so(send):
    def responder(info, refuse):
        return lambda request: HttpResponse(headers={"Vary": "*"})

    config = CONFIG | {"CORS": [ORIGIN], "RESPONDER": responder}
    response = send("post", "/login", config=config, headers={"Origin": ORIGIN})
    assert response.headers["Vary"] == "*"


@pytest.mark.parametrize("is_async", [False, True])
def test_a_query_beyond_ascii_has_the_bytes_that_were_sent(is_async):
    seen, exchange = [], Exchange(target="/login")
    config = CONFIG | {"WHEN": lambda info: bool(seen.append(info.query))}
    with project([path("login", lambda _: HttpResponse())], config):
        if is_async:
            scope = scope_of(exchange) | {"query_string": "q=\u00e9".encode()}
            call_asgi(ASGIHandler(), scope, messages_of(exchange))
        else:
            environ = environ_of(exchange) | {"QUERY_STRING": "q=\xc3\xa9"}
            call_wsgi(WSGIHandler(), environ)
    assert seen == [b"q=\xc3\xa9"]
