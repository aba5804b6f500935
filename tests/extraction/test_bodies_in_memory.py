"""Bodies that the adapters pass on: truncated, replayed, in chunks of odd sizes."""

from __future__ import annotations

import io
import json

import pytest
from adapters import Exchange, environ_of, messages_of
from raw_requests import ADAPTERS, through_asgi, through_wsgi

from tcaptcha_middleware import Guard, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

PAIR = {"ticket": "tr03good", "randstr": "@r"}
FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
MULTIPART = ("Content-Type", "multipart/form-data; boundary=B")
PART = '--B\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
PARTS = "".join(PART.format(*item) for item in PAIR.items()).encode()
UPLOAD = PARTS + b'--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
every_adapter = pytest.mark.parametrize("send", ADAPTERS.values(), ids=ADAPTERS)


def guard_of(**settings):
    return Guard(["POST /login"], FakeVerifier(), **settings)


# -- A body that breaks off after a complete pair ------

WHOLE = {
    "JSON": (JSON, (json.dumps(PAIR).encode(),)),
    "JSON in pieces": (JSON, (b'{"ticket": "tr03good", ', b'"randstr": "@r"}')),
    "JSON and a blank": (JSON, (json.dumps(PAIR).encode() + b"\n", b" ")),
    "urlencoded": (FORM, (b"ticket=tr03good&randstr=@r",)),
    "urlencoded in pieces": (FORM, (b"ticket=tr03good&", b"randstr=@r", b"&more=")),
    "urlencoded in empty pieces": (FORM, (b"ticket=tr03good&randstr=@r", b"")),
}


@every_adapter
@pytest.mark.parametrize(("header", "pieces"), WHOLE.values(), ids=WHOLE)
def test_a_body_that_breaks_off_after_a_pair_spends_no_ticket(send, header, pieces):
    guard = guard_of()
    broken = Exchange(headers=(header,), pieces=pieces, broken_off=True)
    result = send(guard, broken)
    assert result.code == ("unanswered" if send is through_asgi else "request_malformed")
    assert result.seen is None
    assert guard.verifier.tickets == []
    # The ticket is still valid in the next attempt.
    assert send(guard, Exchange(headers=(header,), pieces=pieces)).code == "reached"


def test_after_the_pair_of_a_multipart_form_the_asgi_application_sees_the_disconnect():
    # The gate does not read an upload to its end, so the handler, which reads the rest, sees
    # the disconnect first.
    guard = guard_of()
    broken = Exchange(headers=(MULTIPART,), pieces=(UPLOAD, b"rest"), broken_off=True)
    messages = messages_of(broken)
    result = through_asgi(guard, broken)
    assert result.received == messages
    assert result.received[-1] == {"type": "http.disconnect"}
    assert len(guard.verifier.tickets) == 1


def test_after_the_pair_of_a_multipart_form_the_wsgi_application_sees_the_disconnect():
    guard = guard_of()
    broken = Exchange(headers=(MULTIPART,), pieces=(UPLOAD, b"rest"), broken_off=True)
    result = through_wsgi(guard, broken)
    assert result.received == broken.body
    assert int(result.seen["CONTENT_LENGTH"]) == len(broken.body) + 1
    assert len(guard.verifier.tickets) == 1


@every_adapter
def test_a_multipart_form_that_breaks_off_before_its_pair_spends_no_ticket(send):
    guard = guard_of()
    pieces = (PARTS[:-1],)
    broken = Exchange(headers=(MULTIPART,), pieces=pieces, broken_off=True)
    assert send(guard, broken).seen is None
    assert guard.verifier.tickets == []


@every_adapter
def test_a_body_that_breaks_off_reaches_the_application_if_a_rule_only_observes(send):
    body = b'{"ticket": '
    broken = Exchange(headers=(JSON,), pieces=(body,), broken_off=True)
    result = send(guard_of(mode="observe"), broken)
    assert result.decision.refused == "request_malformed"
    if send is through_asgi:
        assert result.received == messages_of(broken)
    else:
        assert result.received == body


def test_in_observe_mode_the_application_sees_a_client_that_disconnects_at_once():
    messages = [{"type": "http.disconnect"}]
    exchange = Exchange(headers=(FORM,))
    result = through_asgi(guard_of(mode="observe"), exchange, messages=messages)
    assert result.received == messages
    result = through_asgi(guard_of(), exchange, messages=messages)
    assert (result.code, result.seen) == ("unanswered", None)


# -- Messages ------


def test_a_message_without_a_body_is_an_empty_one():
    exchange = Exchange(headers=(FORM,))
    assert through_asgi(guard_of(), exchange, messages=[{"type": "http.request"}]).code == (
        "ticket_missing"
    )
    messages = [
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"ticket=tr03good&", "more_body": True},
        {"type": "http.request", "more_body": True},
        {"type": "http.request", "body": b"randstr=@r", "more_body": True},
        {"type": "http.request"},
    ]
    result = through_asgi(guard_of(), exchange, messages=messages)
    assert result.code == "reached"
    # Empty pieces are dropped, except for the last.
    assert result.received == [messages[1], messages[3], messages[4]]


# -- The replayed input of a WSGI server ------


class Server(io.RawIOBase):
    """An input that cannot seek, like those of servers."""

    def __init__(self, body):
        super().__init__()
        self._body = io.BytesIO(body)

    def read(self, size=-1):
        return self._body.read(size)

    def readline(self, size=-1):
        return self._body.readline(size)


def replayed(body, header):
    """Return the input that the application gets, for a body that the gate has read from."""
    streams = []

    def app(environ, start_response):
        streams.append(environ["wsgi.input"])
        return []

    environ = environ_of(Exchange(headers=(header,), pieces=(body,)))
    stream = environ["wsgi.input"] = Server(body)
    TCaptchaWSGIMiddleware(app, guard_of())(environ, lambda *_: None)
    assert streams[0] is not stream
    return streams[0]


BODIES = {
    "read to its end": (FORM, b"ticket=tr03good&randstr=@r&text=a%0Ab\nc"),
    "read in part": (MULTIPART, PARTS + b"--B\r\n\r\n" + b"line\n" * 1000),
}
EMPTY = {
    "read": lambda stream: stream.read(0),
    "readline": lambda stream: stream.readline(0),
}


@pytest.mark.parametrize(("header", "body"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("read", EMPTY.values(), ids=EMPTY)
def test_reading_zero_bytes_consumes_nothing(header, body, read):
    stream = replayed(body, header)
    assert read(stream) == b""
    assert stream.read(5) == body[:5]
    assert read(stream) == b""
    assert stream.read() == body[5:]
    assert read(stream) == stream.read() == b""


@pytest.mark.parametrize(("header", "body"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("size", [1, 7, 1023, 1024, 1025, 5000, 100_000])
def test_a_body_is_read_in_pieces_of_any_size(header, body, size):
    stream, pieces = replayed(body, header), []
    while piece := stream.read(size):
        pieces.append(piece)
    assert b"".join(pieces) == body
    assert all(len(piece) == size for piece in pieces[:-1])


@pytest.mark.parametrize(("header", "body"), BODIES.values(), ids=BODIES)
def test_a_body_is_read_by_lines(header, body):
    assert list(replayed(body, header)) == body.splitlines(keepends=True)
    assert replayed(body, header).readlines(1) == body.splitlines(keepends=True)[:1]
    assert replayed(body, header).readlines(0) == body.splitlines(keepends=True)


@pytest.mark.parametrize(("header", "body"), BODIES.values(), ids=BODIES)
def test_a_line_is_read_across_what_the_gate_has_read_and_the_rest(header, body):
    stream, lines = replayed(body, header), []
    while line := stream.readline():
        lines.append(line)
    assert lines == body.splitlines(keepends=True)
