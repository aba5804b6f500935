"""The ASGI adapter, beyond the table that both adapters share."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace
from functools import partial
from urllib.parse import quote, quote_plus

import anyio
import pytest
from adapters import Exchange, call_asgi, messages_of, scope_of
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from tcaptcha_middleware import (
    Allow,
    Guard,
    OutageError,
    PlainResponse,
    Rule,
    Submission,
    TCaptchaMiddleware,
    get_decision,
    in_thread,
    sources,
)
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.testing import FakeVerifier

HEAD = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
FORM = ("Content-Type", "application/x-www-form-urlencoded")
PAIR = b"ticket=tr03good&randstr=@r"


class Recorder:
    """An application that records its arguments and the body that it received."""

    def __init__(self) -> None:
        self.scopes: list[dict] = []
        self.messages: list[dict] = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(dict(scope))
        if scope["type"] == "http":
            await self._read(receive)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})

    async def _read(self, receive):
        while not self.messages or self.messages[-1].get("more_body"):
            self.messages.append(await receive())


def send(exchange, guard=None, app=None, kind="http", **scope):
    adapter = TCaptchaMiddleware(app or Recorder(), guard or Guard(["/login"], FakeVerifier()))
    return call_asgi(adapter, scope_of(exchange, kind, **scope), messages_of(exchange))


def test_a_refusal_is_sent_as_problem_json():
    start, body = send(Exchange())
    headers = dict(start["headers"])
    assert start["status"] == 403
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"content-length"] == str(len(body["body"])).encode()


def test_a_refused_head_request_gets_the_length_and_no_body():
    start, body = send(Exchange(method="HEAD"))
    assert body["body"] == b""
    assert int(dict(start["headers"])[b"content-length"]) > 0


def test_the_application_sees_rule_and_verdict():
    app = Recorder()
    send(Exchange(headers=HEAD), Guard([Rule("/login", name="door")], FakeVerifier()), app)
    seen = get_decision(app.scopes[0])
    assert (seen.rule, seen.verdict.code) == ("door", 1)


def test_a_decision_of_another_guard_does_not_count():
    rule = Guard(["/login"], FakeVerifier()).match("POST", "/login")
    foreign = Allow("/login", target=(rule, "POST", "/login"))
    assert send(Exchange(), tcaptcha=foreign)[0]["status"] == 403


def test_a_refusal_says_that_no_more_follows():
    # Quart's test client fails with the default.
    assert send(Exchange())[1]["more_body"] is False


def test_headers_that_can_be_read_once_are_read_by_the_application_too():
    app = Recorder()
    adapter = TCaptchaMiddleware(app, Guard(["/login"], FakeVerifier()))
    exchange = Exchange(headers=HEAD)
    scope = scope_of(exchange)
    headers = scope["headers"]
    call_asgi(adapter, scope | {"headers": iter(headers)}, messages_of(exchange))
    assert app.scopes[0]["headers"] == headers


class Address:
    """A client that can be iterated, once only, and not indexed."""

    def __init__(self, *values):
        self._values = iter(values)

    def __iter__(self):
        return self._values


@pytest.mark.parametrize("pair", [iter, tuple, list, lambda pair: (part for part in pair)])
@pytest.mark.parametrize("headers", [iter, tuple, list, lambda pairs: (p for p in pairs)])
def test_header_pairs_that_can_be_read_once_are_read_by_the_application_too(headers, pair):
    app, verifier = Recorder(), FakeVerifier()
    scope = scope_of(Exchange(headers=HEAD))
    plain = scope["headers"]
    scope["headers"] = headers([pair(item) for item in plain])
    scope["client"] = Address("203.0.113.7", 50000)
    call_asgi(
        TCaptchaMiddleware(app, Guard(["/login"], verifier)), scope, [{"type": "http.request"}]
    )
    seen = app.scopes[0]
    assert [tuple(item) for item in seen["headers"]] == plain
    assert [tuple(item) for item in seen["headers"]] == plain  # more than once
    assert tuple(seen["client"]) == tuple(seen["client"]) == ("203.0.113.7", 50000)
    assert verifier.tickets[0].user_ip == "203.0.113.7"


def test_headers_of_an_unprotected_request_are_left_alone():
    app = Recorder()
    scope = scope_of(Exchange(target="/free", headers=HEAD))
    headers, client = iter(scope["headers"]), Address("203.0.113.7", 50000)
    scope |= {"headers": headers, "client": client}
    call_asgi(
        TCaptchaMiddleware(app, Guard(["/login"], FakeVerifier())),
        scope,
        [{"type": "http.request"}],
    )
    assert app.scopes[0]["headers"] is headers
    assert app.scopes[0]["client"] is client


def test_a_decision_for_one_rule_does_not_count_for_another():
    guard = Guard(["/shop/login", "/login"], FakeVerifier())
    below = TCaptchaMiddleware(Recorder(), guard)

    async def rerouting(scope, receive, send):
        await below(scope | {"path": "/login", "raw_path": b"/login"}, receive, send)

    sent = send(Exchange(target="/shop/login", headers=HEAD), guard, rerouting)
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("covered", ["/login", "/free"])
def test_the_body_is_not_read_if_the_headers_contain_the_pair(covered):
    async def receive():
        raise AssertionError

    async def app(scope, receive, send):
        pass

    adapter = TCaptchaMiddleware(app, Guard(["/login"], FakeVerifier()))
    asyncio.run(adapter(scope_of(Exchange(target=covered, headers=HEAD)), receive, receive))


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8))
def test_messages_reach_the_application_unchanged(rest):
    exchange = Exchange(headers=(FORM,), pieces=(PAIR, b"&x=", *rest))
    app = Recorder()
    send(exchange, app=app)
    assert app.messages == messages_of(exchange)


def test_messages_after_the_pair_are_left_to_the_application():
    parts = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    pair = parts % (b"ticket", b"tr03") + parts % (b"randstr", b"@r") + b"--B\r\n"
    waiting = []

    async def receive():
        waiting.append(1)
        return {"type": "http.request", "body": pair, "more_body": True}

    async def app(scope, receive, send):
        assert len(waiting) == 1
        await receive()
        assert len(waiting) == 1
        await receive()
        assert len(waiting) == 2

    headers = (("Content-Type", "multipart/form-data; boundary=B"),)
    adapter = TCaptchaMiddleware(app, Guard(["/login"], FakeVerifier()))
    asyncio.run(adapter(scope_of(Exchange(headers=headers)), receive, receive))


def test_empty_pieces_are_dropped():
    app = Recorder()
    send(Exchange(headers=(FORM,), pieces=(b"", b"", b"", PAIR, b"")), app=app)
    assert [m["body"] for m in app.messages] == [PAIR, b""]


class TooLargeError(Exception):
    pass


def test_an_outer_middleware_that_aborts_the_body_is_a_malformed_request(caplog):
    async def receive():
        raise TooLargeError

    sent = []

    async def send(message):
        sent.append(message)

    adapter = TCaptchaMiddleware(Recorder(), Guard(["/login"], FakeVerifier()))
    asyncio.run(adapter(scope_of(Exchange(headers=(FORM,))), receive, send))
    assert sent[0]["status"] == 400
    assert {record.levelname for record in caplog.records} <= {"DEBUG", "INFO"}


@pytest.mark.parametrize(("pieces", "status"), [(1280, 200), (1281, 413)])
def test_a_body_in_too_many_pieces_is_not_buffered(pieces, status):
    # Each is kept as it arrived, and takes about 200 bytes.
    body = (PAIR + b"&x=").ljust(pieces, b"x")
    exchange = Exchange(headers=(FORM,), pieces=tuple(bytes([byte]) for byte in body))
    assert send(exchange)[0]["status"] == status


def test_a_client_that_disconnects_gets_no_response():
    app = Recorder()
    assert send(Exchange(headers=(FORM,), pieces=(b"a",), broken_off=True), app=app) == []
    assert app.scopes == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_client_that_stalls_gets_a_response_in_time(backend):
    async def receive():
        await anyio.sleep_forever()

    sent = []

    async def send(message):
        sent.append(message)

    adapter = TCaptchaMiddleware(
        Recorder(), Guard(["/login"], FakeVerifier(), body_timeout=0.05)
    )
    anyio.run(adapter, scope_of(Exchange(headers=(FORM,))), receive, send, backend=backend)
    assert json.loads(sent[1]["body"])["code"] == "request_malformed"


def test_a_client_that_sends_slowly_gets_a_response_in_time():
    async def receive():
        await anyio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    sent = []

    async def send(message):
        sent.append(message)

    adapter = TCaptchaMiddleware(
        Recorder(), Guard(["/login"], FakeVerifier(), body_timeout=0.1)
    )
    began = time.monotonic()
    asyncio.run(adapter(scope_of(Exchange(headers=(FORM,))), receive, send))
    assert sent[0]["status"] == 400
    assert time.monotonic() - began < 5


def test_a_root_path_that_is_none_is_ignored():
    sent = call_asgi(
        TCaptchaMiddleware(Recorder(), Guard(["POST /login"], FakeVerifier())),
        scope_of(Exchange(), root_path=None),
        messages_of(Exchange()),
    )
    assert sent[0]["status"] == 403


@pytest.mark.parametrize("raw_path", [None, b""])
def test_a_scope_without_its_optional_keys_is_gated(raw_path):
    bare = scope_of(Exchange(), raw_path=raw_path, client=None)
    for name in ("query_string", "root_path", "extensions", "server"):
        del bare[name]
    verifier = FakeVerifier()
    bare["headers"] = [(k.lower().encode(), v.encode()) for k, v in HEAD]
    call_asgi(
        TCaptchaMiddleware(Recorder(), Guard(["/login"], verifier)),
        bare,
        messages_of(Exchange()),
    )
    assert verifier.tickets[0].user_ip == "127.0.0.1"


@pytest.mark.parametrize("kind", ["lifespan", "unknown", "http.something"])
def test_every_other_scope_passes_untouched(kind):
    app = Recorder()
    adapter = TCaptchaMiddleware(app, Guard(["/**"], FakeVerifier()))
    asyncio.run(adapter({"type": kind}, None, None))
    assert app.scopes == [{"type": kind}]


WEBSOCKET = Exchange(method="GET")
DENIAL = {"websocket.http.response": {}}


def test_a_handshake_is_denied_with_a_response_if_the_server_supports_it():
    start, body = send(WEBSOCKET, kind="websocket", extensions=DENIAL)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert body["type"] == "websocket.http.response.body"
    assert json.loads(body["body"])["code"] == "ticket_missing"


@pytest.mark.parametrize("extensions", [{}, None, {"tls": {}}])
def test_a_handshake_is_otherwise_closed_before_it_is_accepted(extensions, monkeypatch):
    def never(*_):
        raise AssertionError("an answer was built that cannot be sent")

    monkeypatch.setattr(Guard, "answer", never)
    guard = Guard(["/login"], FakeVerifier(), responder=never)
    sent = send(WEBSOCKET, guard, kind="websocket", extensions=extensions)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


def test_a_handshake_is_read_without_a_body_in_spite_of_its_headers():
    scope = scope_of(replace(WEBSOCKET, headers=(FORM,)), "websocket")
    adapter = TCaptchaMiddleware(Recorder(), Guard(["/login"], FakeVerifier()))
    sent = call_asgi(adapter, scope, [{"type": "websocket.connect"}])
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": ""}]


def test_a_handshake_with_a_ticket_reaches_the_application():
    guard, app = Guard(["GET /login"], FakeVerifier(), sources=[sources.Query()]), Recorder()
    exchange = Exchange(method="GET", target="/login?ticket=a&randstr=b")
    send(exchange, guard, app, "websocket")
    assert get_decision(app.scopes[0]).verdict.code == 1


def test_a_handshake_is_matched_as_get():
    scope = scope_of(WEBSOCKET, "websocket")
    del scope["method"]
    adapter = TCaptchaMiddleware(Recorder(), Guard(["GET /login"], FakeVerifier()))
    assert call_asgi(adapter, scope, [])[0]["type"] == "websocket.close"


RESPONDERS = {
    "an ASGI application": lambda request, refuse: PlainTextResponse(refuse.reason, 429),
    "a Response": lambda request, refuse: PlainResponse(
        429, [("X-A", "b")], refuse.reason.encode()
    ),
}


@pytest.mark.parametrize("responder", RESPONDERS.values(), ids=RESPONDERS)
@pytest.mark.parametrize(
    ("kind", "prefix"), [("http", "http"), ("websocket", "websocket.http")]
)
def test_a_responder_replaces_the_answer(responder, kind, prefix):
    guard = Guard(["/login"], FakeVerifier(), responder=responder)
    start, body = send(Exchange(), guard, kind=kind, extensions=DENIAL)
    assert (start["type"], start["status"]) == (f"{prefix}.response.start", 429)
    assert body["body"] == b"ticket_missing"


def fails(request, refuse):
    raise ZeroDivisionError


UNFIT = {
    "fails": fails,
    "a string": lambda *_: "no",
    "an interim status": lambda *_: PlainResponse(199),
    "a status above 599": lambda *_: PlainResponse(600),
    "a status in quotes": lambda *_: PlainResponse("403"),
    "a value beyond latin-1": lambda *_: PlainResponse(403, [("X-A", "\u20ac")]),
    "a value in two lines": lambda *_: PlainResponse(403, [("X-A", "a\r\nX-B: c")]),
    "a name in two words": lambda *_: PlainResponse(403, [("X A", "a")]),
    "headers in a dict": lambda *_: PlainResponse(403, {"X-A": "a"}),
    "a body that is a string": lambda *_: PlainResponse(403, [], "no"),
}


@pytest.mark.parametrize("responder", UNFIT.values(), ids=UNFIT)
def test_a_responder_that_fails_leaves_the_default_answer(responder, caplog):
    guard = Guard(["/login"], FakeVerifier(), responder=responder)
    assert send(Exchange(), guard)[0]["status"] == 403
    assert "/login: responder failed" in caplog.text
    # The headers that it wanted to send may contain a cookie.
    assert "\u20ac" not in caplog.text


def test_a_responder_gets_the_request_and_the_verdict():
    calls = []
    guard = Guard(
        ["/login"],
        FakeVerifier(9),
        responder=lambda request, refuse: calls.append((request, refuse)) or PlainResponse(403),
    )
    send(Exchange(headers=HEAD), guard)
    request, refuse = calls[0]
    assert (request.path, request.method) == ("/login", "POST")
    assert (refuse.reason, refuse.rule, refuse.verdict.code) == ("ticket_reused", "/login", 9)


def test_client_ip_returns_the_address_that_is_sent():
    verifier = FakeVerifier()
    guard = Guard(
        ["/login"], verifier, client_ip=lambda request: request.header("X-Real-Ip")[0]
    )
    send(Exchange(headers=(*HEAD, ("X-Real-Ip", "198.51.100.1"))), guard)
    assert verifier.tickets[0].user_ip == "198.51.100.1"


def test_lifespan_shutdown_closes_the_verifiers_and_starts_are_left_alone():
    events = []

    class Closing(FakeVerifier):
        async def aclose(self):
            events.append("closed")

    async def app(scope, receive, send):
        for kind in ("startup", "shutdown"):
            await send({"type": f"lifespan.{kind}.complete"})

    async def send(message):
        events.append(message["type"])

    adapter = TCaptchaMiddleware(app, Guard(["/login"], Closing()))
    asyncio.run(adapter({"type": "lifespan"}, None, send))
    assert events == ["lifespan.startup.complete", "closed", "lifespan.shutdown.complete"]


def test_an_application_without_lifespan_raises_its_own_error():
    async def app(scope, receive, send):
        raise ValueError(scope["type"])

    adapter = TCaptchaMiddleware(app, Guard(["/login"], FakeVerifier()))
    with pytest.raises(ValueError, match="lifespan"):
        asyncio.run(adapter({"type": "lifespan"}, None, None))


def test_an_error_of_the_application_is_passed_on():
    async def app(scope, receive, send):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        send(Exchange(headers=HEAD), app=app)


def test_a_cancelled_verification_is_cancelled():
    async def main():
        class Slow:
            async def averify(self, ticket):
                await anyio.sleep_forever()

        adapter = TCaptchaMiddleware(Recorder(), Guard(["/login"], Slow()))
        with anyio.move_on_after(0.05) as scope:
            await adapter(scope_of(Exchange(headers=HEAD)), None, None)
        return scope.cancelled_caught

    assert asyncio.run(main())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_request_releases_its_slot_at_once(backend):
    class Slow:
        async def averify(self, ticket):
            try:
                await anyio.sleep_forever()
            except BaseException as error:
                kept.append(error)  # with its frames, so the flow is not collected
                raise

    kept, guard = [], Guard(["/login"], Slow(), max_checks=1)
    slots = guard.match("POST", "/login").health.slots

    async def main():
        with anyio.move_on_after(0.02):
            try:
                await TCaptchaMiddleware(Recorder(), guard)(
                    scope_of(Exchange(headers=HEAD)), None, None
                )
            finally:
                free.append(slots.enter())

    free = []
    anyio.run(main, backend=backend)
    assert (len(kept), free) == (1, [True])


def test_a_sync_verifier_in_a_thread_does_not_block_the_loop():
    class Slow(FakeVerifier):
        def verify(self, ticket):
            time.sleep(0.2)
            return super().verify(ticket)

        def close(self):
            self.tickets.append("closed")

    slow = Slow()
    guard = Guard(["/login"], in_thread(slow))

    async def main():
        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)

        ticks = []
        ticking = asyncio.create_task(tick())
        adapter = TCaptchaMiddleware(Recorder(), guard)

        async def nothing(message=None):
            return {"type": "http.request"}

        await adapter(scope_of(Exchange(headers=HEAD)), nothing, nothing)
        ticking.cancel()
        await guard.aclose()
        return len(ticks)

    assert asyncio.run(main()) > 5
    assert slow.tickets[-1] == "closed"


def test_sync_verifiers_do_not_wait_for_a_thread():
    at_once = 64
    together = threading.Barrier(at_once)

    class Slow(FakeVerifier):
        def verify(self, ticket):
            together.wait(10)
            return super().verify(ticket)

    async def main():
        averify = in_thread(Slow()).averify
        ticket = Submission("tr03good", "@r", "203.0.113.7")
        return await asyncio.gather(*(averify(ticket) for _ in range(at_once)))

    assert all(verdict.passed for verdict in asyncio.run(main()))


class Unclosable(FakeVerifier):
    def close(self):
        raise OSError

    async def aclose(self):
        raise OSError


def test_a_verifier_that_fails_to_close_keeps_no_other_open(caplog):
    closed = []

    class Other(FakeVerifier):
        def close(self):
            closed.append("close")

        async def aclose(self):
            closed.append("aclose")

    guard = Guard(["/login", Rule("/other", verifier=Other())], Unclosable())
    guard.close()
    asyncio.run(guard.aclose())
    assert closed == ["close", "aclose"]
    assert caplog.text.count("Unclosable cannot be closed") == 2


def test_a_verifier_without_close_is_left_alone():
    for verifier in (FakeVerifier(), in_thread(FakeVerifier())):
        asyncio.run(Guard(["/login"], verifier).aclose())


@pytest.mark.parametrize(("ticket", "randstr"), [("tr03\\good", ""), ("tr03\\good", "a")])
def test_a_ticket_is_removed_from_the_log_in_every_notation(ticket, randstr, caplog):
    error = KeyError(ticket)
    rule = Guard(["/login"], FakeVerifier()).match("POST", "/login")
    log.broken_verifier(rule, error, Submission(ticket, randstr, "203.0.113.7"))
    assert "good" not in caplog.text
    assert "KeyError: '[removed]'" in caplog.text


@pytest.mark.parametrize("spell", [quote, partial(quote, safe=""), quote_plus, json.dumps])
def test_a_ticket_is_removed_from_the_urls_and_documents_of_other_errors(spell, caplog):
    ticket = 'tr03 a/good+"\\ü'
    rule = Guard(["/login"], FakeVerifier()).match("POST", "/login")
    error = OSError(f"https://vendor.example/?ticket={spell(ticket)}")
    log.broken_verifier(rule, error, Submission(ticket, "", "203.0.113.7"))
    assert "[removed]" in caplog.text
    assert "good" not in caplog.text


SECRETS = ("tr03good", "@rnd")


def test_no_ticket_is_ever_logged(caplog):
    class Leaking(FakeVerifier):
        async def averify(self, ticket):
            raise LookupError(f"{ticket.ticket} {ticket.randstr}")

    caplog.set_level("DEBUG")
    for verifier in (Leaking(), FakeVerifier(OutageError("down")), FakeVerifier(16)):
        names = ("X-Captcha-Ticket", "X-Captcha-Randstr")
        pair = tuple(zip(names, SECRETS, strict=True))
        send(Exchange(headers=pair), Guard(["/login"], verifier))
    assert "LookupError" in caplog.text
    assert not any(secret in caplog.text for secret in SECRETS)


def test_a_misconfiguration_is_logged_for_the_operator(caplog):
    send(Exchange(headers=HEAD), Guard(["/login"], FakeVerifier(100)))
    # Another test's probe may log that its service is up again.
    [error] = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "app_secret_key" in error
