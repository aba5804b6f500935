"""The WSGI adapter, beyond the table that both adapters share."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import zlib
from wsgiref.validate import validator

import pytest
from adapters import Exchange, call_wsgi, environ_of
from flask import Flask, redirect
from flask import request as flask_request
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from werkzeug.wrappers import Response as WerkzeugResponse

from tcaptcha_middleware import (
    Allow,
    ConfigurationError,
    Guard,
    PlainResponse,
    Rule,
    TCaptchaWSGIMiddleware,
    get_decision,
)
from tcaptcha_middleware.testing import FakeVerifier

HEAD = (("X-Captcha-Ticket", "tr03good"), ("X-Captcha-Randstr", "@r"))
FORM = ("Content-Type", "application/x-www-form-urlencoded")
PAIR = b"ticket=tr03good&randstr=@r"


def app_with(use):
    """Return an application that hands its environ to `use` and answers 200."""

    def app(environ, start_response):
        use(environ)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]

    return app


def send(exchange, guard=None, use=lambda environ: None, **environ):
    adapter = TCaptchaWSGIMiddleware(
        app_with(use), guard or Guard(["/login"], FakeVerifier(), body_limit=100_000)
    )
    return call_wsgi(adapter, environ_of(exchange, **environ))


def test_a_refusal_is_sent_as_problem_json():
    status, headers, body = send(Exchange())
    assert status == 403
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize("target", ["login", "shop/login", "xshop/login", "//login", "/login"])
def test_below_a_mount_no_form_of_the_path_bypasses_the_rule(target):
    # Some servers pass on a target that does not begin with a slash.
    environ = environ_of(Exchange(), SCRIPT_NAME="/shop", PATH_INFO=target)
    adapter = TCaptchaWSGIMiddleware(app_with(print), Guard(["POST /login"], FakeVerifier()))
    assert b"ticket_missing" in b"".join(adapter(environ, lambda *_: None))


MOUNTED = {
    "/health": 200,
    "/acme/health": 403,
    "/shop/health": 403,  # below the mount, so its URL begins with /shop/shop
    "/": 403,
    "": 403,
}


@pytest.mark.parametrize(("target", "status"), MOUNTED.items(), ids=repr)
def test_an_exemption_is_not_extended_by_the_mounts_name(target, status):
    guard = Guard(["/**"], FakeVerifier(), exempt=["/health"])
    environ = {"SCRIPT_NAME": "/shop", "PATH_INFO": target}
    assert send(Exchange(target="/"), guard, **environ)[0] == status


def test_a_status_without_a_reason_phrase_is_sent():
    answer = PlainResponse(498, [("Content-Type", "text/plain")])
    guard = Guard(["/login"], FakeVerifier(), responder=lambda *_: answer)
    assert send(Exchange(), guard)[0] == 498


def test_a_refused_head_request_gets_the_length_and_no_body():
    status, headers, body = send(Exchange(method="HEAD"))
    assert (status, body) == (403, b"")
    assert int(headers["Content-Length"]) > 0


def test_the_application_sees_rule_and_verdict():
    seen = []
    guard = Guard([Rule("/login", name="door")], FakeVerifier())
    send(Exchange(headers=HEAD), guard, lambda environ: seen.append(get_decision(environ)))
    assert (seen[0].rule, seen[0].verdict.code) == ("door", 1)


def test_a_decision_of_another_guard_does_not_count():
    rule = Guard(["/login"], FakeVerifier()).match("POST", "/login")
    foreign = Allow("/login", target=(rule, "POST", "/login"))
    assert send(Exchange(), **{"tcaptcha.decision": foreign})[0] == 403


def test_rules_match_the_own_paths_of_a_mounted_application():
    assert send(Exchange(target="/login"), SCRIPT_NAME="/api")[0] == 403
    guard = Guard(["/api/login"], FakeVerifier())
    assert send(Exchange(target="/login"), guard, SCRIPT_NAME="/api")[0] == 403


@pytest.mark.parametrize(
    "path", ["/login\xc0\xaf", "//login", "/login\n", "/\xe7\x99\xbb\xe5\xbd\x95"], ids=ascii
)
def test_paths_are_compared_in_every_form(path):
    guard = Guard(["/login", "/登录"], FakeVerifier())
    adapter = TCaptchaWSGIMiddleware(app_with(lambda environ: None), guard)
    assert call_wsgi(adapter, environ_of(Exchange(), PATH_INFO=path))[0] == 403


def test_the_input_is_not_read_if_the_headers_contain_the_pair():
    untouched = io.BytesIO(b"body")
    seen = []

    def app(environ, start_response):
        seen.append(environ["wsgi.input"])
        start_response("200 OK", [])
        return []

    adapter = TCaptchaWSGIMiddleware(app, Guard(["/login"], FakeVerifier()))
    environ = environ_of(Exchange(headers=HEAD, pieces=(b"body",)))
    adapter(environ | {"wsgi.input": untouched}, lambda status, headers: None)
    assert seen == [untouched]
    assert untouched.tell() == 0


LINES = st.lists(st.binary(max_size=30), max_size=6).map(b"\n".join)
MULTIPART = (
    b'--B\r\nContent-Disposition: form-data; name="ticket"\r\n\r\ntr03\r\n'
    b'--B\r\nContent-Disposition: form-data; name="randstr"\r\n\r\n@r\r\n'
    b'--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
)
READS = {
    "read": lambda s, n: s.read(n),
    "readline": lambda s, n: s.readline(),
    "readline of a size": lambda s, n: s.readline(n),
    "next of iteration": lambda s, n: next(iter(s), b""),
    "readlines of a size": lambda s, n: b"".join(s.readlines(n)),
}


@given(
    rest=LINES,
    padding=st.integers(0, 20_000),
    reads=st.lists(st.tuples(st.sampled_from(sorted(READS)), st.integers(0, 9000)), max_size=6),
)
def test_the_replayed_input_reads_like_the_original(rest, padding, reads):
    body = MULTIPART + b"x" * padding + rest
    headers = (("Content-Type", "multipart/form-data; boundary=B"),)
    pairs = []

    def use(environ):
        ours, plain = environ["wsgi.input"], io.BytesIO(body)
        for read, size in reads:
            pairs.append((READS[read](ours, size), READS[read](plain, size)))
        pairs.append((ours.read(), plain.read()))

    adapter = TCaptchaWSGIMiddleware(app_with(use), Guard(["/login"], FakeVerifier()))
    adapter(environ_of(Exchange(headers=headers, pieces=(body,))), lambda *_: None)
    assert len(pairs) == len(reads) + 1
    assert all(ours == plain for ours, plain in pairs)


@pytest.mark.parametrize("name", ["read", "readline", "readlines"])
def test_a_size_of_none_reads_everything(name):
    def read(environ):
        seen.append(getattr(environ["wsgi.input"], name)(None))

    seen = []
    send(Exchange(headers=(FORM,), pieces=(PAIR,)), use=read)
    assert seen == [[PAIR] if name == "readlines" else PAIR]


def test_readlines_without_a_hint_reads_all():
    lines = []
    body = PAIR + b"&a=\n\nb\n"
    adapter = TCaptchaWSGIMiddleware(
        app_with(lambda environ: lines.extend(environ["wsgi.input"].readlines())),
        Guard(["/login"], FakeVerifier()),
    )
    adapter(environ_of(Exchange(headers=(FORM,), pieces=(body,))), lambda *_: None)
    assert lines == body.splitlines(keepends=True)


class Source(io.RawIOBase):
    """A server's input that counts the bytes read, and blocks after the body."""

    def __init__(self, body, ends):
        self.left, self.ends, self.taken = body, ends, 0

    def read(self, size=-1):
        if not self.left and not self.ends:
            raise AssertionError("read past the body")
        piece, self.left = self.left[:size], self.left[size:]
        self.taken += len(piece)
        return piece


def test_a_chunked_body_is_read_to_its_end_if_the_server_marks_it():
    source = Source(PAIR, ends=True)
    seen = []
    exchange = Exchange(headers=(FORM,))
    environ = environ_of(exchange) | {"wsgi.input": source, "wsgi.input_terminated": True}
    adapter = TCaptchaWSGIMiddleware(
        app_with(lambda environ: seen.append(environ["wsgi.input"].read())),
        Guard(["/login"], FakeVerifier()),
    )
    adapter(environ, lambda *_: None)
    assert seen == [PAIR]


def test_a_chunked_multipart_body_is_read_no_further_than_the_pair():
    source = Source(MULTIPART + b"x" * 50_000, ends=True)
    headers = (("Content-Type", "multipart/form-data; boundary=B"),)
    environ = environ_of(Exchange(headers=headers))
    taken = []
    adapter = TCaptchaWSGIMiddleware(
        app_with(lambda environ: taken.append(source.taken)), Guard(["/login"], FakeVerifier())
    )
    adapter(environ | {"wsgi.input": source, "wsgi.input_terminated": True}, lambda *_: None)
    assert taken[0] <= 8192


def test_a_body_without_length_or_end_is_not_waited_for():
    environ = environ_of(Exchange(headers=(FORM,))) | {"wsgi.input": Source(b"", ends=False)}
    adapter = TCaptchaWSGIMiddleware(app_with(print), Guard(["/login"], FakeVerifier()))
    assert b"ticket_missing" in b"".join(adapter(environ, lambda *_: None))


def test_the_body_is_not_read_past_its_length():
    seen = []
    source = Source(PAIR, ends=False)
    environ = environ_of(Exchange(headers=(FORM,))) | {
        "wsgi.input": source,
        "CONTENT_LENGTH": str(len(PAIR)),
    }
    adapter = TCaptchaWSGIMiddleware(
        app_with(lambda environ: seen.append(environ["wsgi.input"].read())),
        Guard(["/login"], FakeVerifier()),
    )
    adapter(environ, lambda *_: None)
    assert seen == [PAIR]


@pytest.mark.parametrize("length", ["abc", "-5", "1e3", "²", "9" * 5000])
def test_a_content_length_that_is_not_a_number_counts_as_an_empty_body(length):
    environ = environ_of(Exchange(headers=(FORM,))) | {"CONTENT_LENGTH": length}
    adapter = TCaptchaWSGIMiddleware(app_with(print), Guard(["/login"], FakeVerifier()))
    assert b"ticket_missing" in b"".join(adapter(environ, lambda *_: None))


def test_an_input_that_fails_is_a_malformed_request():
    class Broken(io.RawIOBase):
        def read(self, size=-1):
            raise ConnectionResetError

    environ = environ_of(Exchange(headers=(FORM,), pieces=(PAIR,))) | {"wsgi.input": Broken()}
    adapter = TCaptchaWSGIMiddleware(app_with(print), Guard(["/login"], FakeVerifier()))
    assert b"request_malformed" in b"".join(adapter(environ, lambda *_: None))


def test_a_client_that_sends_slowly_gets_a_response_in_time():
    class Dripping(io.RawIOBase):
        def read(self, size=-1):
            return b"a"

    environ = environ_of(Exchange(headers=(FORM,))) | {
        "wsgi.input": Dripping(),
        "wsgi.input_terminated": True,
    }
    guard = Guard(["/login"], FakeVerifier(), body_timeout=0.05, body_limit=10**9)
    adapter = TCaptchaWSGIMiddleware(app_with(print), guard)
    assert b"request_malformed" in b"".join(adapter(environ, lambda *_: None))


class Waiting(io.RawIOBase):
    """An input over a connection that waits for all requested bytes, as gunicorn's does."""

    def __init__(self, connection):
        self.connection = connection

    def read(self, size=-1):
        read = b""
        while len(read) < size and (piece := self.connection.recv(size - len(read))):
            read += piece
        return read


@pytest.fixture
def ends():
    """A connection's two ends, ours and the client's, with a timeout for each wait."""
    ours, client = socket.socketpair()
    with ours, client:
        ours.settimeout(20)
        client.settimeout(20)
        yield ours, client


def slow(ours, length=1000, **environ):
    """Return the environ of a request over `ours` whose body arrives late or never."""
    return environ_of(
        Exchange(headers=(FORM,)),
        **{"wsgi.input": Waiting(ours), "CONTENT_LENGTH": str(length)},
        **{"gunicorn.socket": ours} | environ,
    )


def hurried(app=print, **settings):
    return TCaptchaWSGIMiddleware(
        app, Guard(["/login"], FakeVerifier(), body_timeout=0.05, **settings)
    )


SERVERS = ["gunicorn.socket", "werkzeug.socket"]


@pytest.mark.parametrize("name", SERVERS)
def test_a_client_that_stalls_is_disconnected_after_a_response(ends, name, caplog):
    caplog.set_level("DEBUG")
    environ = slow(ends[0]) | {"gunicorn.socket": None, name: ends[0]}
    status, _, body = call_wsgi(hurried(), environ)
    assert (status, json.loads(body)["code"]) == (400, "request_malformed")
    assert "too slowly" in caplog.text


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/0.9", "HTTP/01.1", "HTTP/5", ""])
def test_no_protocol_version_exempts_a_client_that_stalls(ends, version):
    environ = slow(ends[0]) | {"SERVER_PROTOCOL": version}
    answer = hurried()(environ, lambda *_: None)
    assert json.loads(b"".join(answer))["code"] == "request_malformed"
    answer.close()


def test_a_client_that_stalls_is_refused_even_if_its_address_changes(ends):
    asked = []

    def client_ip(request):
        asked.append(request)
        # Two visitors: the rule applies to the first, and not to the second.
        return ["203.0.113.4", "203.0.113.1"][len(asked) > 1]

    assert zlib.crc32(b"203.0.113.4") % 100 < 50 <= zlib.crc32(b"203.0.113.1") % 100
    reached = []
    adapter = hurried(app_with(reached.append), percent=50, client_ip=client_ip)
    answer = adapter(slow(ends[0]), lambda *_: None)
    assert json.loads(b"".join(answer))["code"] == "request_malformed"
    assert (len(asked), reached) == (1, [])
    answer.close()


def test_nothing_is_read_or_written_after_the_response_to_a_disconnected_client(ends):
    ours, client = ends
    answer = hurried()(slow(ours), lambda *_: None)
    ours.sendall(b"".join(answer))
    answer.close()
    assert json.loads(client.recv(10_000))["code"] == "request_malformed"
    assert client.recv(1) == b""
    with pytest.raises(OSError, match="pipe"):
        client.sendall(b"GET /admin HTTP/1.1")


def test_a_responders_response_to_a_disconnected_client_is_closed_too(ends):
    ours, client = ends
    closed = []

    class Answer(list):
        def close(self):
            closed.append(True)
            raise ZeroDivisionError

    adapter = hurried(responder=lambda request, refuse: lambda environ, start: Answer([b"no"]))
    answer = adapter(slow(ours), lambda *_: None)
    assert list(answer) == [b"no"]
    with pytest.raises(ZeroDivisionError):
        answer.close()
    assert closed == [True]
    assert client.recv(1) == b""


def test_a_body_that_arrives_in_time_keeps_the_connection(ends):
    ours, client = ends
    client.sendall(PAIR)
    assert hurried(app_with(print))(slow(ours, len(PAIR)), lambda *_: None) == [b""]
    time.sleep(0.2)
    client.sendall(b"next")
    assert ours.recv(4) == b"next"


@pytest.mark.parametrize("settings", [{"mode": "observe"}, {"percent": 0}], ids=str)
def test_no_client_is_disconnected_if_no_request_is_refused(ends, settings):
    ours, client = ends
    seen = []

    def send_late():
        client.sendall(PAIR[:5])
        time.sleep(0.2)
        client.sendall(PAIR[5:])

    adapter = hurried(
        app_with(lambda environ: seen.append(environ["wsgi.input"].read(26))), **settings
    )
    sending = threading.Thread(target=send_late)
    sending.start()
    answer = adapter(slow(ours, len(PAIR)), lambda *_: None)
    sending.join()
    assert (answer, seen) == ([b""], [PAIR])


SHARED = {
    "HTTP/2": {"SERVER_PROTOCOL": "HTTP/2.0"},
    "a socket of another kind": {"gunicorn.socket": object()},
}


@pytest.mark.parametrize("environ", SHARED.values(), ids=SHARED)
def test_a_shared_connection_is_not_closed(ends, environ):
    ours, client = ends
    ours.settimeout(0.2)
    answer = hurried()(slow(ours, **environ), lambda *_: None)
    assert json.loads(b"".join(answer))["code"] == "request_malformed"
    client.sendall(b"next")
    assert ours.recv(4) == b"next"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_worker_that_is_stopped_releases_its_slot_at_once(error):
    class Stopped(FakeVerifier):
        def verify(self, ticket):
            raise error

    guard = Guard(["/login"], Stopped(), max_checks=1)
    with pytest.raises(error) as caught:
        send(Exchange(headers=HEAD), guard)
    assert guard.match("POST", "/login").health.slots.enter()
    assert caught.tb is not None  # its frames are kept, so the flow is not collected


RESPONDERS = {
    "a WSGI application": lambda request, refuse: WerkzeugResponse(refuse.reason, 429),
    "a Response": lambda request, refuse: PlainResponse(
        429, [("Content-Type", "text/plain")], refuse.reason.encode()
    ),
}


@pytest.mark.parametrize("responder", RESPONDERS.values(), ids=RESPONDERS)
def test_a_responder_replaces_the_answer(responder):
    guard = Guard(["/login"], FakeVerifier(), responder=responder)
    status, _, body = send(Exchange(), guard)
    assert (status, body) == (429, b"ticket_missing")


def test_the_applications_response_is_passed_on_unchanged():
    answer = [b"a"]

    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return answer

    adapter = TCaptchaWSGIMiddleware(app, Guard(["/login"], FakeVerifier()))
    assert adapter(environ_of(Exchange(headers=HEAD)), lambda *_: None) is answer


def test_the_adapter_follows_the_protocol_towards_server_and_application():
    adapter = TCaptchaWSGIMiddleware(
        validator(app_with(lambda environ: environ["wsgi.input"].read(5))),
        Guard(["/login"], FakeVerifier()),
    )
    environ = environ_of(Exchange(headers=(FORM,), pieces=(PAIR,)))
    assert call_wsgi(adapter, environ)[0] == 200


def test_headers_joined_by_the_server_count_as_repeated():
    environ = environ_of(Exchange(headers=HEAD)) | {"HTTP_X_CAPTCHA_TICKET": "a,b"}
    adapter = TCaptchaWSGIMiddleware(app_with(print), Guard(["/login"], FakeVerifier()))
    body = b"".join(adapter(environ, lambda *_: None))
    assert json.loads(body)["code"] == "ticket_ambiguous"


def test_a_non_ascii_path_is_the_same_in_rules_mounts_and_hooks():
    paths = []

    def responder(request, refuse):
        paths.append(request.path)
        return PlainResponse(403, [("Content-Type", "text/plain")])

    guard = Guard(["POST /b\u00fcro/t\u00fcr"], FakeVerifier(), responder=responder)
    adapter = TCaptchaWSGIMiddleware(lambda environ, start_response: [b""], guard)
    wrapped = [part.encode().decode("latin-1") for part in ("/b\u00fcro", "/t\u00fcr")]
    mount, path = wrapped
    for script, info in ((mount, path), ("", mount + path)):
        environ = environ_of(Exchange(), SCRIPT_NAME=script, PATH_INFO=info)
        assert call_wsgi(adapter, environ)[0] == 403
    assert paths == ["/t\u00fcr", "/b\u00fcro/t\u00fcr"]


async def asgi_app(scope, receive, send):
    raise AssertionError


@pytest.mark.parametrize("app", [asgi_app, Starlette()], ids=repr)
def test_the_wsgi_adapter_rejects_an_asgi_application(app):
    with pytest.raises(ConfigurationError, match="use TCaptchaMiddleware"):
        TCaptchaWSGIMiddleware(app, Guard(["POST /login"], FakeVerifier()))


def flask_app():
    app = Flask(__name__)

    @app.post("/old")
    def old():
        return redirect("/new", int(flask_request.args["status"]))

    @app.post("/new")
    def new():
        return flask_request.form.to_dict()

    return app


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_flasks_test_client_sends_the_body_again_after_a_redirect(status, kind):
    app = flask_app()
    app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, Guard(["POST /old"], FakeVerifier()))
    fields = {"ticket": "tr03good", "randstr": "@r", "more": "x" * 5000}
    response = app.test_client().post(
        f"/old?status={status}", data=fields, content_type=kind, follow_redirects=True
    )
    assert response.json == fields


class SeekableInput(io.BytesIO):
    """An input that begins in the middle of a stream."""

    def __init__(self, body):
        super().__init__(b"before" + body)
        self.seek(6)


def failing(*_):
    raise OSError


INPUTS = {
    "seeks": ({}, True),
    "says that it cannot seek": ({"seekable": lambda: False}, False),
    "cannot say whether": ({"seekable": failing}, False),
    "does not know its position": ({"tell": failing}, False),
    "fails to seek": ({"seek": failing}, False),
    "seeks elsewhere": ({"seek": lambda _: 0}, False),
}


@pytest.mark.parametrize(("broken", "is_own"), INPUTS.values(), ids=INPUTS)
@pytest.mark.parametrize("more", [b"", b"&more=" + b"x" * 5000], ids=["short", "long"])
def test_a_seekable_input_is_passed_on_at_its_original_position(broken, is_own, more):
    stream, seen = SeekableInput(PAIR + more), []
    for name, value in broken.items():
        setattr(stream, name, value)
    environ = environ_of(Exchange(headers=(FORM,), pieces=(PAIR + more,))) | {
        "wsgi.input": stream
    }

    def use(environ):
        seen.append(
            (environ["wsgi.input"] is stream, environ["wsgi.input"].read(len(PAIR + more)))
        )

    app = TCaptchaWSGIMiddleware(app_with(use), Guard(["/login"], FakeVerifier()))
    app(environ, lambda *_: None)
    assert seen == [(is_own, PAIR + more)]


def test_a_seekable_input_follows_the_protocol():
    seen = []
    inner = validator(app_with(lambda environ: seen.append(environ["wsgi.input"].read(100))))
    app = TCaptchaWSGIMiddleware(inner, Guard(["/login"], FakeVerifier()))
    # Without a validator around the gate, whose own input cannot seek.
    environ = environ_of(Exchange(headers=(FORM,), pieces=(PAIR,)))
    answer = app(environ | {"wsgi.input": SeekableInput(PAIR)}, lambda *_: print)
    assert list(answer) == [b""]
    answer.close()
    assert seen == [PAIR]


def test_an_input_is_rewound_for_a_refusal_too():
    stream = SeekableInput(b"ticket=a")
    environ = environ_of(Exchange(headers=(FORM,), pieces=(b"ticket=a",))) | {
        "wsgi.input": stream
    }
    guard = Guard(["/login"], FakeVerifier())
    TCaptchaWSGIMiddleware(app_with(print), guard)(environ, lambda *_: None)
    assert stream.read() == b"ticket=a"
