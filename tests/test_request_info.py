"""`RequestInfo` in hooks: the same headers under ASGI and WSGI, and the raw request."""

from __future__ import annotations

import tracemalloc

import pytest
from adapters import RUNNERS, Exchange, call_wsgi, environ_of
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import Guard, RequestInfo, Rule, TCaptchaWSGIMiddleware
from tcaptcha_middleware.models import EnvironHeaders, _environ_key
from tcaptcha_middleware.testing import FakeVerifier

ENVIRON = {
    "REQUEST_METHOD": "POST",
    "CONTENT_TYPE": "text/plain",
    "CONTENT_LENGTH": "",
    "HTTP_X_CAPTCHA_TICKET": "t",
    "HTTP_ACCEPT": "",
    # Some servers pass on what a client writes with an underscore.
    "HTTP_CONTENT_TYPE": "application/json",
    "HTTP_X_NAME": "é€",
    "wsgi.input": None,
    "SERVER_PORT": "80",
}
HEADERS = {
    "X-Captcha-Ticket": ["t"],
    "x-captcha-ticket": ["t"],
    "X_Captcha_Ticket": [],
    "Content-Type": ["text/plain"],
    "content-type": ["text/plain"],
    "Content-Length": [],
    "Accept": [""],
    "X-Name": ["é?"],
    "Host": [],
    "": [],
    "Method": [],
}


def wsgi_request(environ: dict[str, object]) -> RequestInfo:
    return RequestInfo("http", "POST", "/", headers=EnvironHeaders(environ), raw=environ)


@pytest.mark.parametrize(("name", "values"), HEADERS.items(), ids=repr)
def test_a_header_is_looked_up_in_the_environ(name, values):
    assert wsgi_request(ENVIRON).header(name) == values


def test_all_headers_are_the_pairs_that_asgi_has():
    headers = EnvironHeaders(ENVIRON)
    pairs = [
        (b"content-type", b"text/plain"),
        (b"x-captcha-ticket", b"t"),
        (b"accept", b""),
        (b"x-name", b"\xe9?"),
    ]
    assert list(headers) == pairs
    assert (len(headers), headers[0], headers[1:], headers[-1]) == (
        4,
        pairs[0],
        pairs[1:],
        pairs[-1],
    )
    assert pairs[1] in headers


NAMES = st.text("ABCXYZ-", min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.text(st.characters(max_codepoint=255))), NAMES)
def test_a_lookup_finds_the_same_as_all_headers(headers, name):
    environ = {f"HTTP_{key.replace('-', '_')}": value for key, value in headers.items()}
    listed = RequestInfo("http", "POST", "/", headers=list(EnvironHeaders(environ)))
    assert wsgi_request(environ).header(name) == listed.header(name)


PAIRS = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=2)))


@given(PAIRS, st.sampled_from(["a", "B", "C", "d"]))
def test_a_lookup_finds_every_value_of_a_repeated_header(pairs, name):
    request = RequestInfo("http", "POST", "/", headers=pairs)
    values = [value.decode("latin-1") for key, value in pairs if key.decode() == name.lower()]
    assert [request.header(name), request.header(name)] == [values, values]


def test_the_names_of_headers_are_not_kept():
    app = TCaptchaWSGIMiddleware(lambda environ, start: [], Guard(["/login"], FakeVerifier()))
    # All headers of an OPTIONS request are read, to know if it is a preflight.
    head = environ_of(Exchange(method="OPTIONS"))

    def send(number):
        call_wsgi(app, head | {f"HTTP_X{number}_{'X' * 60_000}": "a"})

    send(0)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(100):
            send(number)
        # Each name has 60 KB.
        assert tracemalloc.get_traced_memory()[0] - before < 200_000
    finally:
        tracemalloc.stop()


def test_only_names_that_the_code_asks_for_are_cached():
    _environ_key.cache_clear()
    environ = environ_of(Exchange()) | {f"HTTP_X{number}": "a" for number in range(100)}
    app = TCaptchaWSGIMiddleware(lambda environ, start: [], Guard(["/login"], FakeVerifier()))
    call_wsgi(app, environ)
    assert _environ_key.cache_info().currsize < 10


RAW_KEYS = {"flow": None, "asgi": "headers", "wsgi": "HTTP_COOKIE"}


@pytest.mark.parametrize(("runner", "key"), RAW_KEYS.items(), ids=RAW_KEYS)
def test_hooks_reach_the_scope_or_the_environ(runner, key):
    seen = []
    rule = Rule("POST /login", when=lambda request: seen.append(request.raw))
    RUNNERS[runner](Guard([rule], FakeVerifier()), Exchange(headers=(("Cookie", "session=1"),)))
    (raw,) = seen
    assert raw is None if key is None else "session=1" in str(raw[key])


def test_the_representation_contains_neither_headers_nor_the_raw_request():
    request = wsgi_request(ENVIRON | {"HTTP_COOKIE": "secret", "QUERY_STRING": "secret"})
    request.query = b"ticket=secret"
    assert "secret" not in repr(request)
    assert "secret" not in repr(request.headers)
