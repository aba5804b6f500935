"""What a request costs, in what can be counted: calls, allocations, bytes kept, timers."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
from io import BytesIO

import pytest
from adapters import Exchange, scope_of

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

PAIR = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
PIECE = b"x" * 16 * 1024


async def app(scope, receive, send):
    pass


def wsgi_app(environ, start_response):
    return []


def guard(rules=1, **settings):
    texts = [f"POST /area{number}/login" for number in range(rules - 1)]
    return Guard([*texts, "POST /login"], FakeVerifier(), **settings)


def asgi(rules, exchange, protecting=None):
    face = TCaptchaMiddleware(app, protecting or guard(rules))
    scope = scope_of(exchange)

    def serve():
        try:
            face(scope, None, None).send(None)
        except StopIteration:
            return

    return serve


def wsgi(rules, exchange, protecting=None):
    face = TCaptchaWSGIMiddleware(wsgi_app, protecting or guard(rules))
    environ = {"REQUEST_METHOD": exchange.method, "PATH_INFO": exchange.target}
    return lambda: face(environ, None)


FACES = {"asgi": asgi, "wsgi": wsgi}
every_face = pytest.mark.parametrize("face", FACES.values(), ids=FACES)
# A method that the rules are about, so that the target is looked up, and one that none names.
every_method = pytest.mark.parametrize("method", ["POST", "GET"])


def calls_of(serve):
    """Count the calls that Python makes, its own functions' and C's."""
    calls = []

    def note(frame, event, argument):
        if event in ("call", "c_call"):
            calls.append(event)

    serve()
    sys.setprofile(note)
    try:
        serve()
    finally:
        sys.setprofile(None)
    return len(calls)


@every_face
@every_method
def test_an_uncovered_request_takes_as_many_calls_with_a_thousand_rules_as_with_one(
    face, method
):
    exchange = Exchange(method=method, target="/items/42")
    assert len({calls_of(face(rules, exchange)) for rules in (1, 100, 1000)}) == 1


@every_face
@every_method
def test_an_uncovered_request_takes_few_calls(face, method):
    assert calls_of(face(1, Exchange(method=method, target="/items/42"))) <= 16


@every_face
def test_the_target_of_a_request_whose_method_no_rule_names_is_not_matched(face):
    for method, matched in (("POST", 1), ("GET", 0)):
        protecting = guard()
        face(1, Exchange(method=method, target="/items/42"), protecting)()
        assert len(protecting._matches) == matched


@every_face
@every_method
def test_an_uncovered_request_leaves_nothing_behind(face, method):
    serve = face(1000, Exchange(method=method, target="/items/42"))
    serve()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            serve()
        # Less than a byte each: what is left is tracemalloc's and the loop's own.
        assert tracemalloc.get_traced_memory()[0] - before < 1000
    finally:
        tracemalloc.stop()


def upload(face, pieces, headers):
    """Send an upload to a handler that reads it; gives the most that was kept at once."""
    sent = iter(range(pieces))
    kept, most = set(), []

    class Piece(bytes):
        """Knows that it is there."""

        __slots__ = ()

        def __del__(self):
            kept.discard(id(self))

    async def receive():
        number = next(sent)
        piece = Piece(PIECE)
        kept.add(id(piece))
        most.append(len(kept))
        return {"type": "http.request", "body": piece, "more_body": number < pieces - 1}

    async def send(message):
        pass

    scope = scope_of(Exchange(headers=headers))
    asyncio.run(face(scope, receive, send))
    return max(most) * len(PIECE)


async def reader(scope, receive, send):
    while (await receive())["more_body"]:
        pass


def test_of_an_upload_whose_headers_hold_the_pair_nothing_is_kept():
    face = TCaptchaMiddleware(reader, guard())
    assert upload(face, 1000, PAIR) <= 2 * len(PIECE)


def test_of_an_upload_without_a_pair_no_more_is_kept_than_the_limit():
    face = TCaptchaMiddleware(reader, guard(body_limit=64 * 1024))
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    assert upload(face, 1000, form) <= 64 * 1024 + 2 * len(PIECE)


def test_a_body_in_wsgi_is_read_no_further_than_the_limit():
    body = BytesIO(PIECE * 1000)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/login",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(1000 * len(PIECE)),
        "wsgi.input": body,
    }
    face = TCaptchaWSGIMiddleware(wsgi_app, guard(body_limit=64 * 1024))
    face(environ, lambda status, headers: None)
    assert body.tell() <= 64 * 1024 + 1024


GARBAGE = {
    "no ticket": (),
    "no characters of one": (("X-Captcha-Ticket", "a b"), PAIR[1]),
    "a disaster ticket": (("X-Captcha-Ticket", "trerror_1001_1_1"), PAIR[1]),
}


@pytest.mark.parametrize("headers", GARBAGE.values(), ids=GARBAGE)
def test_garbage_costs_neither_a_call_nor_a_claim(headers):
    verifier = FakeVerifier()

    class Untouched:
        async def aclaim(self, key, token, seconds):
            raise AssertionError

        async def arelease(self, key, token):
            raise AssertionError

    async def send(message):
        pass

    face = TCaptchaMiddleware(app, Guard(["/login"], verifier, replay_store=Untouched()))
    for _ in range(100):
        asyncio.run(face(scope_of(Exchange(headers=headers)), None, send))
    assert verifier.tickets == []


def test_a_covered_request_makes_no_timer_where_nothing_waits():
    timers = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_at = lambda *of: timers.append(of)
        await TCaptchaMiddleware(app, guard())(scope_of(Exchange(headers=PAIR)), None, None)

    asyncio.run(main())
    assert timers == []
