"""Request bodies on real servers, sent over raw sockets: intact, in time, not buffered."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import time
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from itertools import count
from pathlib import Path

import pytest
from served import serving
from wire_client import PATIENCE, Wire, chunk

pytestmark = pytest.mark.outside

ASGI = ["uvicorn with h11", "uvicorn with httptools", "hypercorn", "granian for ASGI"]
WSGI = ["gunicorn", "gunicorn with threads", "waitress", "granian for WSGI"]
every_server = pytest.mark.parametrize("server", ASGI + WSGI)
# waitress calls the application when it has the whole body.
every_stream = pytest.mark.parametrize("server", [s for s in ASGI + WSGI if s != "waitress"])
every_framing = pytest.mark.parametrize("framing", ["length", "chunked"])

FORM = "Content-Type: application/x-www-form-urlencoded"
FILE = "Content-Type: application/octet-stream"
NUMBERS = count()


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Start each server when a test first needs it; none may log a traceback."""
    logs, running = tmp_path_factory.mktemp("logs"), {}

    def served(server):
        if server not in running:
            running[server] = stack.enter_context(serving(server, "body_apps", logs / server))
        return running[server]

    with ExitStack() as stack:
        yield served
    logs = {server: site.log.read_text() for server, site in running.items()}
    assert {server: text for server, text in logs.items() if "Traceback" in text} == {}


@pytest.fixture
def site(serve, server):
    return serve(server)


def fresh():
    number = next(NUMBERS)
    return {"ticket": f"tr03{number}", "randstr": f"@{number}"}


def in_headers():
    pair = fresh()
    return f"X-Captcha-Ticket: {pair['ticket']}", f"X-Captcha-Randstr: {pair['randstr']}"


def form():
    return "&".join(f"{name}={text}" for name, text in fresh().items()).encode()


def urlencoded():
    return FORM, b"user=" + b"a" * 20_000 + b"&" + form() + b"&b=" + b"b" * 20_000


def as_json():
    fields = {"user": "é" * 10_000, **fresh(), "more": list(range(5_000))}
    return "Content-Type: application/json", json.dumps(fields, ensure_ascii=False).encode()


def multipart(upload=b"\r\n--\r\n--BB\r\n" * 5_000):
    disposition = '--B\r\nContent-Disposition: form-data; name="{}"'
    parts = [f"{disposition.format(name)}\r\n\r\n{text}\r\n" for name, text in fresh().items()]
    file = f'{disposition.format("file")}; filename="f"\r\n\r\n'
    body = "".join([*parts, file]).encode() + upload + b"\r\n--B--\r\n"
    return "Content-Type: multipart/form-data; boundary=B", body


def cut(body, pieces):
    """Cut a body at random places; no piece is empty."""
    places = sorted(random.sample(range(1, len(body)), pieces - 1))
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


def framed(framing, pieces):
    if framing == "length":
        return f"Content-Length: {sum(map(len, pieces))}", pieces
    return "Transfer-Encoding: chunked", [*map(chunk, pieces), chunk(b"")]


def target(path="/echo"):
    return f"{path}?{next(NUMBERS)}"


def post(site, where, headers, pieces):
    with Wire(site.port) as wire:
        wire.head(where, *headers)
        wire.send(*pieces)
        return wire.answer()


def seen(answer):
    report = json.loads(answer)
    return report["length"], report["sha256"]


def whole(body):
    return len(body), hashlib.sha256(body).hexdigest()


def ran(site):
    with Wire(site.port) as wire:
        wire.head("/ran", method="GET")
        return wire.answer().document


@every_server
@every_framing
def test_a_body_after_a_pair_in_the_headers_is_intact(site, server, framing):
    body = os.urandom(3_000_000)
    header, pieces = framed(framing, cut(body, 40))
    answer = post(site, target(), [*in_headers(), header], pieces)
    assert seen(answer.body) == whole(body)
    assert server in WSGI or answer.document["messages"] > 10


@every_stream
@every_framing
def test_no_body_is_waited_for_after_a_pair_in_the_headers(site, framing):
    header, _ = framed(framing, [b"a" * 1_000_000])
    assert (
        post(site, target("/early"), [*in_headers(), FORM, header], []).document["length"] == 0
    )


@every_stream
@every_framing
def test_a_body_that_cannot_contain_a_pair_is_not_waited_for(site, framing):
    header, _ = framed(framing, [b"a" * 1_000_000])
    assert post(site, target(), [FILE, header], []).code == "ticket_missing"


@every_stream
@every_framing
def test_an_upload_after_the_pair_in_the_form_is_not_waited_for(site, framing):
    kind, body = multipart(os.urandom(1_000_000))
    # Most WSGI inputs wait for the kilobyte that they are asked for.
    header, pieces = framed(framing, [body[:1500], *cut(body[1500:], 20)])
    with Wire(site.port) as wire:
        wire.head(target("/begun"), kind, header)
        wire.send(pieces[0])
        response = wire.begin()
        assert response.readline() == b"begun\n"
        for piece in pieces[1:]:
            time.sleep(0.005)
            wire.send(piece)
        assert seen(response.read()) == whole(body)


@every_server
@every_framing
@pytest.mark.parametrize("make", [urlencoded, as_json, multipart])
def test_a_body_with_the_pair_is_intact_in_chunks_of_any_size(site, make, framing):
    kind, body = make()
    header, pieces = framed(framing, cut(body, random.randrange(2, 300)))
    assert seen(post(site, target(), [kind, header], pieces).body) == whole(body)


@every_server
@every_framing
def test_a_pair_is_found_if_every_byte_arrives_alone(site, framing):
    body = form()
    header, pieces = framed(framing, [bytes([byte]) for byte in body])
    assert seen(post(site, target(), [FORM, header], pieces).body) == whole(body)


@every_server
@every_framing
def test_a_client_that_expects_100_continue_gets_it(site, framing):
    body = form()
    header, pieces = framed(framing, [body])
    with Wire(site.port) as wire:
        wire.head(target(), FORM, header, "Expect: 100-continue")
        assert re.match(rb"HTTP/1\.1 100 ", wire.line())
        while wire.line() != b"\r\n":
            pass
        wire.send(*pieces)
        assert seen(wire.answer().body) == whole(body)


NOTHING = {
    "no length": (),
    "a length of 0": ("Content-Length: 0",),
    "chunked": ("Transfer-Encoding: chunked",),
}


@every_server
@pytest.mark.parametrize("headers", NOTHING.values(), ids=NOTHING)
def test_an_empty_body_contains_no_pair(site, headers):
    end = [chunk(b"")] if headers == NOTHING["chunked"] else []
    assert post(site, target(), [FORM, *headers], end).code == "ticket_missing"


@pytest.mark.parametrize("server", ["wsgiref"])
def test_a_chunked_body_is_refused_if_the_server_does_not_mark_its_end(site):
    header, _ = framed("chunked", [form()])
    assert post(site, target(), [FORM, header], []).code == "ticket_missing"


@every_server
def test_bytes_after_the_body_are_not_part_of_it(site):
    body = form()
    answer = post(site, target(), [FORM, framed("length", [body])[0]], [body, b"garbage"])
    if answer.code != "the server's own 400":
        assert seen(answer.body) == whole(body)


def too_short(body):
    return "Content-Length: 1000", body


def broken_off(body):
    return "Transfer-Encoding: chunked", chunk(body)


def broken_chunk(body):
    return "Transfer-Encoding: chunked", chunk(body) + b"zz\r\n"


def broken_trailer(body):
    return "Transfer-Encoding: chunked", chunk(body) + b"0\r\nbad trailer\r\n\r\n"


BROKEN = [too_short, broken_off, broken_chunk, broken_trailer]
# granian passes on a truncated chunked body as a complete one; waitress ignores trailers.
TOLERATED = {
    ("granian for WSGI", broken_off),
    ("granian for WSGI", broken_chunk),
    ("granian for WSGI", broken_trailer),
    ("waitress", broken_trailer),
}
BREAKS = [
    pytest.param(server, make, id=f"{make.__name__} {server}")
    for server in ASGI + WSGI
    for make in BROKEN
    if (server, make) not in TOLERATED
]


@pytest.mark.parametrize(("server", "make"), BREAKS)
def test_no_handler_runs_for_a_body_that_breaks_off_before_the_pair(site, server, make):
    header, body = make(form())
    with Wire(site.port) as wire:
        wire.head(where := target(), FORM, header)
        wire.send(body)
        wire.end()
        answer = wire.answer()
    assert where.partition("?")[2] not in ran(site)
    # granian logs a crash if a disconnected client gets no response.
    own = {"the server's own 500"} if server == "granian for ASGI" else set()
    assert answer.code in {"request_malformed", "closed", "the server's own 400"} | own


@every_server
def test_no_handler_runs_for_a_client_that_disconnects_within_the_body(site):
    with Wire(site.port) as wire:
        wire.head(where := target(), FORM, "Content-Length: 1000")
        wire.send(form())
        time.sleep(0.05)
        wire.reset()
    assert where.partition("?")[2] not in ran(site)


# gunicorn passes on its connection, so the gate can disconnect the client.
BOUNDED = [*ASGI, "gunicorn", "gunicorn with threads"]
SLOW = [
    *(pytest.param(server, b"t", 0.2, id=f"{server} drips") for server in BOUNDED),
    *(pytest.param(server, b"t", PATIENCE, id=f"{server} stalls") for server in BOUNDED),
    # If an input blocks until it has all requested bytes, only its pieces can be counted.
    pytest.param("wsgiref", b"t", 0.2, id="wsgiref drips"),
    *(
        pytest.param(server, b"t" * 1024, 0.2, id=f"{server} drips kilobytes")
        for server in WSGI
        if server != "waitress"
    ),
]


@pytest.mark.parametrize(("server", "drop", "pause"), SLOW)
def test_a_slow_client_is_refused_in_time(site, drop, pause):
    deadline = time.monotonic() + PATIENCE
    with Wire(site.port) as wire:
        wire.head(target(), FORM, "Content-Length: 10000000")
        wire.send(drop)
        while not wire.readable(pause):
            assert time.monotonic() < deadline
            wire.send(drop)
        assert wire.answer().code in {"request_malformed", "closed"}


@pytest.mark.parametrize("server", ["gunicorn", "gunicorn with threads"])
@pytest.mark.parametrize("piece", [b"t", chunk(b"t")], ids=["length", "chunked"])
def test_a_client_that_sends_a_byte_at_a_time_is_answered_after_body_timeout(site, piece):
    header = "Content-Length: 10000000" if piece == b"t" else "Transfer-Encoding: chunked"
    began = time.monotonic()
    with Wire(site.port) as wire:
        wire.head(target(), FORM, header)
        wire.send(piece)
        while not wire.readable(0.2):
            assert time.monotonic() - began < PATIENCE
            wire.send(piece)
        assert wire.answer().code == "request_malformed"
    assert 0.9 < time.monotonic() - began < 10


def test_a_connection_survives_the_deadline_of_a_body_that_arrived_in_time(tmp_path):
    with (
        serving(
            "gunicorn with threads", "body_apps", tmp_path / "log", BODY_TIMEOUT="0.3"
        ) as site,
        closing(HTTPConnection("127.0.0.1", site.port, timeout=PATIENCE)) as connection,
    ):
        for _ in range(2):
            connection.request("POST", target(), form(), {"Content-Type": FORM.split()[1]})
            assert connection.getresponse().read()
            kept = connection.sock
            time.sleep(0.5)
        assert connection.sock is kept is not None


LARGE = 200
MEGABYTE = 1_000_000


def peak(site):
    """Return how much memory the server's process has had at most, in bytes."""
    status = Path(f"/proc/{site.pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def upload(site, headers, before, megabytes):
    length = len(before) + megabytes * MEGABYTE
    pieces = [before, *[b"a" * MEGABYTE] * megabytes]
    answer = post(site, target("/discard"), [*headers, f"Content-Length: {length}"], pieces)
    assert answer.document["length"] == length


def behind_a_header():
    return (FILE, *in_headers()), b""


def behind_a_part():
    kind, body = multipart(b"")
    return (kind,), body.removesuffix(b"\r\n--B--\r\n")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize("place", [behind_a_header, behind_a_part])
def test_a_large_upload_is_never_buffered(place, tmp_path):
    with serving("uvicorn with httptools", "body_apps", tmp_path / "log") as site:
        upload(site, *place(), 2)
        before = peak(site)
        upload(site, *place(), LARGE)
        assert peak(site) - before < 10 * MEGABYTE
