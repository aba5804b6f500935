"""No form of the target bypasses the gate: real servers, real frameworks, raw sockets."""

from __future__ import annotations

import hashlib
import json
import os
from wsgiref.util import setup_testing_defaults

import pytest
from gated_sites import gated_answers, pair, pool, reached, serve, site
from h2_client import H2Client
from target_forms import HANDSHAKES, LOGIN, PROTECTED, Form, touching

from tcaptcha_middleware import Guard, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

pytestmark = pytest.mark.outside

ASGI_FRAMEWORKS = ["django", "falcon", "fastapi", "litestar", "quart", "starlette"]
WSGI_FRAMEWORKS = ["bottle", "django", "falcon", "flask", "pyramid"]
MODULES = {
    "uvicorn with h11": "gated_asgi",
    "uvicorn with httptools": "gated_asgi",
    "hypercorn": "gated_asgi",
    "granian for ASGI": "gated_asgi",
    "granian with websockets": "gated_asgi",
    "gunicorn": "gated_wsgi",
    "gunicorn with gevent": "gated_wsgi",
    "waitress": "gated_wsgi",
    "granian for WSGI": "gated_wsgi",
}
SERVERS = [server for server in MODULES if server != "granian with websockets"]
ASGI = [server for server in SERVERS if "asgi" in MODULES[server]]
WSGI = [server for server in SERVERS if "wsgi" in MODULES[server]]
PAIRS = [(s, f) for s in ASGI for f in ASGI_FRAMEWORKS]
PAIRS += [(s, f) for s in WSGI for f in WSGI_FRAMEWORKS]
SOCKETS = [(s, f) for s in ASGI[:3] for f in ASGI_FRAMEWORKS if f != "django"]
# An open websocket that its client leaves can end granian's worker and fail the other tests, so
# handshakes have a separate process, in which none succeeds.
REFUSING = [("granian with websockets", f) for f in ASGI_FRAMEWORKS if f != "django"]
every_pair = pytest.mark.parametrize(("server", "framework"), PAIRS)
every_handshake = pytest.mark.parametrize(("server", "framework"), [*SOCKETS, *REFUSING])
every_socket = pytest.mark.parametrize(("server", "framework"), SOCKETS)


@every_pair
def test_no_form_of_the_target_bypasses_the_gate(site, gated_answers):
    assert reached(gated_answers(site)) == {}


@every_pair
def test_the_gate_adds_no_server_error(site, gated_answers):
    broken = [form for form, answer in gated_answers(site) if answer.status == 500]
    ungated = [answer.status for _, answer in site.send_all(broken, "ungated")]
    assert ungated == [500] * len(broken)


@every_pair
def test_without_the_gate_many_forms_reach_the_handlers(site):
    plain = {str(form): name for name, form in PROTECTED.items()}
    assert reached(site.send_all(PROTECTED.values(), "ungated")) == plain
    assert len(reached(site.send_all(LOGIN, "ungated"))) > 10


HONEST = {
    b"/free": "free",
    b"/free?next=/login&x=%2flogin": "free",
    b"/fr%65e": "free",
    b"/admin/health": "health",
    b"/admin/he%61lth?x=../secret": "health",
    b"/%C3%A9t%C3%A9/1": "other",
}


@every_pair
@pytest.mark.parametrize("target", HONEST, ids=ascii)
def test_a_request_for_an_open_path_passes_byte_for_byte(site, target):
    body = os.urandom(100_000)
    answer = site.send(Form(b"POST", target), b"Content-Length: 100000", body=body)
    assert answer.handler == HONEST[target]
    path = {"free": "/free", "health": "/admin/health", "other": "/été/1"}[answer.handler]
    digest = hashlib.sha256(body).hexdigest()
    assert json.loads(answer.body) == {"method": "POST", "path": len(path), "sha256": digest}


@every_pair
@pytest.mark.parametrize("target", [b"/free", b"/admin/health"])
def test_a_chunked_body_passes_unchanged(site, target):
    body = b"".join(b"2710\r\n%b\r\n" % os.urandom(10_000) for _ in range(10)) + b"0\r\n\r\n"
    gated, ungated = (
        site.send(Form(b"POST", target), b"Transfer-Encoding: chunked", body=body, gate=gate)
        for gate in ("", "ungated")
    )
    # Bottle decodes the chunks again that some servers have decoded.
    assert gated.status == 200 or site.framework == "bottle"
    assert gated._replace(head=b"") == ungated._replace(head=b"")


@every_pair
@pytest.mark.parametrize("name", PROTECTED)
def test_a_valid_pair_reaches_every_protected_handler(site, name):
    answer = site.send(PROTECTED[name], *pair())
    assert (answer.status, answer.handler) == (200, name)


@pytest.mark.parametrize("server", ASGI)
@pytest.mark.parametrize("framework", ["litestar"])
def test_a_litestar_mount_without_a_boundary_needs_its_own_gate(site):
    # Litestar takes /mountlogin for /login below /mount; only the mount's own gate sees that.
    assert site.send(Form(b"POST", b"/mountlogin")).handler == "mounted"
    assert site.send(Form(b"POST", b"/gatedlogin"), gate="ungated").status == 403
    assert site.send(Form(b"POST", b"/gated/login"), gate="ungated").status == 403


@every_handshake
def test_no_handshake_bypasses_the_gate(site):
    assert site.shake(HANDSHAKES[0]) == 403
    assert site.shake_all(HANDSHAKES) == []


@every_socket
def test_without_the_gate_many_handshakes_succeed(site):
    assert len(site.shake_all(HANDSHAKES, "ungated")) > 5
    assert site.shake(HANDSHAKES[0], "ungated") == 101
    assert site.shake(Form(b"GET", b"/free/socket")) == 101


# Each with the paths that the weak rules of `WEAK_FIRST` name.
WEAK = [b"comments", b"assets/x", b"news/1", b"partner"]


def beside_weak(method, path):
    """Return forms of `path` that a weak rule's path is part of."""
    first, *others = (touching(method, path, weak) for weak in WEAK)
    return [*first, *(form for corpus in others for form in corpus[::4])]


LOGIN_BESIDE_WEAK = beside_weak(b"POST", b"/login")


@every_pair
def test_no_weak_rule_lets_a_request_reach_a_strict_rules_handler(site):
    # The request has a ticket that passes one of the weak rules.
    code = beside_weak(b"POST", b"/users/1/code")
    corpus = [*LOGIN_BESIDE_WEAK, *LOGIN[::5], *code[::8]]
    answers = site.send_all(corpus, "weak", lambda: pair("partner"))
    assert reached(answers) == {}


@every_pair
def test_beside_weak_rules_valid_requests_pass(site):
    weak = [Form(b"POST", b"/" + path) for path in WEAK]
    answers = site.send_all(weak, "weak", lambda: pair("partner"))
    assert [answer.status for _, answer in answers] == [404] * len(WEAK)
    answer = site.send(PROTECTED["login"], *pair(), gate="weak")
    assert (answer.status, answer.handler) == (200, "login")


@every_handshake
def test_no_weak_rule_lets_a_handshake_reach_a_strict_rules_websocket(site):
    assert site.shake(HANDSHAKES[0], "weak") == 403
    assert site.shake_all(beside_weak(b"GET", b"/socket"), "weak") == []


PREFLIGHT = (b"Origin: https://a.example", b"Access-Control-Request-Method: POST")
NOT_PREFLIGHT = {
    "a cookie": (b"Cookie: session=1",),
    "credentials": (b"Authorization: Basic YTph",),
    "credentials in upper case": (b"AUTHORIZATION: Basic YTph",),
    "a length": (b"Content-Length: 2",),
    "chunks": (b"Transfer-Encoding: chunked",),
    "another method": (b"X-HTTP-Method-Override: POST",),
}
BODIES = {"a length": b"hi", "chunks": b"2\r\nhi\r\n0\r\n\r\n"}


@every_pair
def test_a_preflight_without_credentials_and_body_passes(site):
    preflight = Form(b"OPTIONS", b"/every", headers=PREFLIGHT)
    header = b"Access-Control-Request-Headers: authorization,content-type,cookie"
    answers = [site.send(preflight, *more) for more in ((), (header,), (b"Content-Length: 0",))]
    assert [answer.handler for answer in answers] == ["every"] * 3


@every_pair
def test_a_preflight_with_credentials_or_a_body_runs_no_handler(site):
    preflight = Form(b"OPTIONS", b"/every", headers=PREFLIGHT)
    answers = {
        kind: site.send(preflight, *headers, body=BODIES.get(kind, b""))[:2]
        for kind, headers in NOT_PREFLIGHT.items()
    }
    assert answers == dict.fromkeys(NOT_PREFLIGHT, (403, ""))


@every_pair
def test_a_preflight_whose_query_names_a_method_runs_no_handler(site):
    queries = [b"_method=POST", b"x=1&_method=post", b"%5Fmethod=POST"]
    preflights = [Form(b"OPTIONS", b"/login?" + q, headers=PREFLIGHT) for q in queries]
    answers = [answer[:2] for _, answer in site.send_all(preflights, "overridden")]
    assert answers == [(403, "")] * len(queries)


@every_pair
def test_a_gate_inside_a_method_override_decides_again(site):
    # The site's own header is unknown to the outer gate, which lets the preflight through.
    preflight = Form(b"OPTIONS", b"/login", headers=(*PREFLIGHT, b"X-Verb: POST"))
    assert site.send(preflight, gate="overridden").handler == "login"
    answer = site.send(preflight, gate="twice")
    assert (answer.status, answer.handler) == (403, "")
    answer = site.send(PROTECTED["login"], *pair(), gate="twice")
    assert (answer.status, answer.handler) == (200, "login")


# The server's HTTP/2 library closes the connection on blanks and control characters.
OVER_HTTP2 = [
    form[:2]
    for form in [*LOGIN_BESIDE_WEAK, *LOGIN]
    if form.method.upper() == b"POST"
    if not form.headers and all(32 < byte < 127 for byte in form.target)
]
over_http2 = pytest.mark.parametrize(
    ("server", "framework"), [("hypercorn", framework) for framework in ASGI_FRAMEWORKS]
)


@over_http2
def test_no_form_of_the_target_bypasses_the_gate_over_http2(site):
    app = f"{site.framework} weak".encode()
    with H2Client(site.served.port) as client:
        answers = list(client.send_all(OVER_HTTP2, (b"x-app", app)))
    assert all(b":status" in answer for answer in answers)
    handlers = [answer.get(b"x-handler") for answer in answers]
    assert [form for form, name in zip(OVER_HTTP2, handlers, strict=True) if name] == []


@over_http2
def test_without_the_gate_many_forms_reach_the_handler_over_http2(site):
    app = f"{site.framework} ungated".encode()
    with H2Client(site.served.port) as client:
        answers = client.send_all(OVER_HTTP2[::3], (b"x-app", app))
        assert [answer.get(b"x-handler") for answer in answers].count(b"login") > 3


@over_http2
def test_a_preflight_with_a_body_runs_no_handler_over_http2(site):
    headers = [(b"x-app", site.framework.encode())]
    headers += [tuple(line.lower().split(b": ")) for line in PREFLIGHT]
    with H2Client(site.served.port) as client:
        # No header announces a body, and the last has only begun with the first message.
        bodies = (None, b"hi", b"")
        streams = [client.send(b"OPTIONS", b"/every", *headers, body=body) for body in bodies]
        answers = client.answers(*streams).values()
    assert [answer.get(b"x-handler") for answer in answers] == [b"every", None, None]
    assert [answer[b":status"] for answer in answers] == [b"200", b"403", b"403"]


@pytest.mark.parametrize("server", ASGI)
@pytest.mark.parametrize("framework", ["starlette"])
def test_the_servers_lifespan_passes_through_the_gate(site):
    assert b"the-lifespan: begun" in site.send(Form(b"POST", b"/free")).head.lower()


def test_a_non_ascii_wsgi_mount_counts_in_a_rule_for_the_full_path():
    def app(environ, start_response):
        raise AssertionError("the application was called")

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/login"}
    setup_testing_defaults(environ)
    environ["SCRIPT_NAME"] = "/été".encode().decode("latin-1")
    statuses = []
    gate = TCaptchaWSGIMiddleware(app, Guard(["POST /été/login"], FakeVerifier()))
    gate(environ, lambda status, headers: statuses.append(status))
    assert statuses == ["403 Forbidden"]
