"""The cost of a request in calls, allocations, buffered bytes and timers."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tracemalloc
from functools import partial
from io import BytesIO

import pytest
from adapters import Exchange, environ_of, messages_of, scope_of

from tcaptcha_middleware import (
    Guard,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TrustedProxies,
    responses,
    sources,
)
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
    adapter = TCaptchaMiddleware(app, protecting or guard(rules))
    scope = scope_of(exchange)

    def serve():
        try:
            adapter(scope, None, None).send(None)
        except StopIteration:
            return

    return serve


def wsgi(rules, exchange, protecting=None):
    adapter = TCaptchaWSGIMiddleware(wsgi_app, protecting or guard(rules))
    environ = {"REQUEST_METHOD": exchange.method, "PATH_INFO": exchange.target}
    return lambda: adapter(environ, None)


ADAPTERS = {"asgi": asgi, "wsgi": wsgi}
every_adapter = pytest.mark.parametrize("adapter", ADAPTERS.values(), ids=ADAPTERS)
# A method that the rules name, so the target is matched, and one that no rule names.
every_method = pytest.mark.parametrize("method", ["POST", "GET"])


def calls_of(serve, events=("call", "c_call")):
    """Count the calls that Python makes, its own functions' and C's, the second time."""
    calls = []

    def note(frame, event, argument):
        if event in events:
            calls.append(event)

    serve()
    gc.disable()  # other libraries have callbacks for it
    sys.setprofile(note)
    try:
        serve()
    finally:
        sys.setprofile(None)
        gc.enable()
    return len(calls)


@every_adapter
@every_method
def test_an_unprotected_request_makes_as_many_calls_with_a_thousand_rules_as_with_one(
    adapter, method
):
    exchange = Exchange(method=method, target="/items/42")
    assert len({calls_of(adapter(rules, exchange)) for rules in (1, 100, 1000)}) == 1


@every_adapter
@every_method
def test_an_unprotected_request_makes_few_calls(adapter, method):
    assert calls_of(adapter(1, Exchange(method=method, target="/items/42"))) <= 16


@every_adapter
def test_the_target_of_a_request_whose_method_no_rule_names_is_not_matched(adapter):
    for method, matched in (("POST", 1), ("GET", 0)):
        protecting = guard()
        adapter(1, Exchange(method=method, target="/items/42"), protecting)()
        assert len(protecting._matches) == matched


def protected(place):
    """Return two requests whose pair is in the headers or in JSON."""
    for ticket in ("tr03good", "tr03better"):
        if place == "headers":
            yield Exchange(headers=(("X-Captcha-Ticket", ticket), PAIR[1]))
        else:
            body = json.dumps({"ticket": ticket, "randstr": "@r", "user": "ada", "number": 1})
            headers = (("Content-Type", "application/json"),)
            yield Exchange(headers=headers, pieces=(body.encode(),))


def asgi_calls(exchanges):
    adapter, requests = TCaptchaMiddleware(app, guard()), []
    for exchange in exchanges:
        (message,) = messages_of(exchange)

        async def receive(message=message):
            return message

        requests.append(adapter(scope_of(exchange), receive, None))

    async def main():
        return calls_of(lambda: next(requests.pop().__await__(), None), ["call"])

    return asyncio.run(main())


def wsgi_calls(exchanges):
    adapter = TCaptchaWSGIMiddleware(wsgi_app, guard())
    environs = [environ_of(each) | {"wsgi.input": BytesIO(each.body)} for each in exchanges]
    return calls_of(lambda: adapter(environs.pop(), None), ["call"])


# The verifier's and the application's included, and the server's `receive`.
@pytest.mark.parametrize("calls", [asgi_calls, wsgi_calls])
@pytest.mark.parametrize(("place", "most"), [("headers", 38), ("json", 61)])
def test_a_protected_request_makes_few_python_calls(calls, place, most, monkeypatch):
    monkeypatch.delitem(sys.modules, "trio", raising=False)  # most servers do not load it
    if sys.version_info < (3, 12):
        most += 6  # comprehensions are calls
    # Without the one of the test itself.
    assert calls(protected(place)) - 1 <= most


@every_adapter
@every_method
def test_an_unprotected_request_leaves_no_memory_allocated(adapter, method):
    serve = adapter(1000, Exchange(method=method, target="/items/42"))
    serve()
    grown = []
    tracemalloc.start()
    try:
        # The least of three: threads of earlier tests allocate, too, but not every time.
        for _ in range(3):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(1000):
                serve()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
    finally:
        tracemalloc.stop()
    # Less than a byte each: the rest belongs to tracemalloc and the loop.
    assert min(grown) < 1000


def upload(adapter, pieces, headers):
    """Send an upload to a handler that reads it; return the most bytes buffered at once."""
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
    asyncio.run(adapter(scope, receive, send))
    return max(most) * len(PIECE)


async def reader(scope, receive, send):
    while (await receive())["more_body"]:
        pass


def test_an_upload_with_the_pair_in_its_headers_is_not_buffered():
    adapter = TCaptchaMiddleware(reader, guard())
    assert upload(adapter, 1000, PAIR) <= 2 * len(PIECE)


def test_an_upload_without_a_pair_is_buffered_up_to_the_limit():
    adapter = TCaptchaMiddleware(reader, guard(body_limit=64 * 1024))
    form = (("Content-Type", "application/x-www-form-urlencoded"),)
    assert upload(adapter, 1000, form) <= 64 * 1024 + 2 * len(PIECE)


def test_a_body_in_wsgi_is_read_no_further_than_the_limit():
    body = BytesIO(PIECE * 1000)
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/login",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(1000 * len(PIECE)),
        "wsgi.input": body,
    }
    adapter = TCaptchaWSGIMiddleware(wsgi_app, guard(body_limit=64 * 1024))
    adapter(environ, lambda status, headers: None)
    assert body.tell() <= 64 * 1024 + 1024


GARBAGE = {
    "no ticket": (),
    "no characters of one": (("X-Captcha-Ticket", "a b"), PAIR[1]),
    "a disaster ticket": (("X-Captcha-Ticket", "trerror_1001_1_1"), PAIR[1]),
}


@pytest.mark.parametrize("headers", GARBAGE.values(), ids=GARBAGE)
def test_a_malformed_ticket_costs_neither_a_call_nor_a_claim(headers):
    verifier = FakeVerifier()

    class Untouched:
        async def aclaim(self, key, token, seconds):
            raise AssertionError

        async def arelease(self, key, token):
            raise AssertionError

    async def send(message):
        pass

    adapter = TCaptchaMiddleware(app, Guard(["/login"], verifier, replay_store=Untouched()))
    for _ in range(100):
        asyncio.run(adapter(scope_of(Exchange(headers=headers)), None, send))
    assert verifier.tickets == []


def test_a_protected_request_creates_no_timer_if_it_need_not_wait():
    timers = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.call_at = lambda *of: timers.append(of)
        await TCaptchaMiddleware(app, guard())(scope_of(Exchange(headers=PAIR)), None, None)

    asyncio.run(main())
    assert timers == []


# What one request may cost: about 5 ms, at 0.1 us a call.
MOST_CALLS = 50_000
LONG = 64 * 1024 - 100


def filled(unit, start="", end=""):
    return start + unit * ((LONG - len(start) - len(end)) // len(unit)) + end


def posted(content_type, body):
    return {"CONTENT_TYPE": content_type, "wsgi.input": BytesIO(body.encode())} | {
        "CONTENT_LENGTH": str(len(body))
    }


JSON, FORM = "application/json", "application/x-www-form-urlencoded"
PARTS = "multipart/form-data; boundary=B"
PART = 'Content-Disposition: form-data; name="ticket"\r\n\r\n'
NUMBERS = ",".join(map(str, range(12_000)))
HOSTILE = {
    "a long Accept": {"HTTP_ACCEPT": filled("a/b;q=0.1,")},
    "an Accept of parameters": {"HTTP_ACCEPT": filled(";")},
    "a long Accept-Language": {"HTTP_ACCEPT_LANGUAGE": filled("zh-TW;q=0.1,")},
    "many values of a header": {"HTTP_X_CAPTCHA_TICKET": NUMBERS},
    "many cookies": {
        "REQUEST_METHOD": "GET",
        "HTTP_ACCEPT": "text/html",
        "HTTP_COOKIE": filled("tcaptcha_ticket=%41;"),
    },
    "many addresses": {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": filled("10.0.0.2,")},
    "many headers": {"REQUEST_METHOD": "OPTIONS"} | {f"HTTP_X{n}": "a" for n in range(2000)},
    "a long query": {"QUERY_STRING": filled("ticket=%41&")},
    "escapes of escapes": {"PATH_INFO": filled("/%2541")},
    "odd segments": {"PATH_INFO": filled("/.a;.")},
    "an odd mount": {"SCRIPT_NAME": filled("/%61"), "PATH_INFO": "/a//b"},
    "a Content-Type of parameters": posted(filled("; boundary=x", "multipart/form-data"), "x"),
    "JSON objects": posted(JSON, filled('{"":1},', "[", "1]")),
    "JSON that repeats a key": posted(JSON, filled('"ticket":1,', "{", '"a":1}')),
    "deep JSON": posted(JSON, filled("[")),
    "a form of tickets": posted(FORM, filled("ticket=%41&")),
    "a form of one long value": posted(FORM, filled("%41", "ticket=")),
    "parts of a form": posted(PARTS, filled(f"--B\r\n{PART}a\r\n")),
    "headers of a part": posted(PARTS, filled("a:b\r\n", "--B\r\n")),
    "line breaks in a part": posted(PARTS, filled("\r\n", f"--B\r\n{PART}")),
    "almost boundaries": posted(PARTS, filled("\r\n--A", f"--B\r\n{PART}")),
}
EVERYWHERE = [sources.Header(), sources.Query(), sources.Form(), sources.Json()]
SETTINGS = {
    "default": {"page": "/tcaptcha"},
    "everything": {"sources": EVERYWHERE, "client_ip": TrustedProxies(["10.0.0.0/8"])},
    "a function": {"sources": [sources.Body(lambda request, body: None)]},
}


@pytest.mark.parametrize("environ", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_no_request_makes_many_calls(settings, environ):
    rules = ["/**", "/login", "/{a}/{b}/**", *(f"/a/{{x}}/{n}" for n in range(50))]
    protecting = Guard(rules, FakeVerifier(), **settings)
    adapter = TCaptchaWSGIMiddleware(wsgi_app, protecting)
    plain = {"REQUEST_METHOD": "POST", "PATH_INFO": "/login", "wsgi.input": BytesIO()}

    def serve():
        # Nothing is remembered of the same request.
        protecting._matches.clear()
        responses._preferred.cache_clear()
        environ.get("wsgi.input", plain["wsgi.input"]).seek(0)
        adapter(plain | environ, lambda status, headers: None)

    assert calls_of(serve) <= MOST_CALLS


def test_a_guard_is_made_in_time_proportional_to_its_rules():
    few, many = (calls_of(partial(guard, number)) for number in (200, 400))
    assert many <= 2.05 * few


def test_a_long_json_body_makes_as_many_calls_as_a_short_one():
    items = {"id": 12345, "name": "Ada", "tags": ["a"]}
    counts = set()
    for number in (20, 200, 1000):  # bodies of few objects are decoded in another way
        bodies = [
            json.dumps({"ticket": f"tr03{n}", "randstr": "@r", "items": [items] * number})
            for n in range(2)
        ]
        head = (("Content-Type", JSON),)
        exchanges = [Exchange(headers=head, pieces=(body.encode(),)) for body in bodies]
        counts.add(asgi_calls(exchanges))
    assert len(counts) == 1
