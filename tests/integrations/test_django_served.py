"""The gate inside Django on real servers: ways around it, uploads, slow clients."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from gated_sites import Site, pair, reached
from served import serving
from target_forms import CORPUS, LOGIN, PROTECTED, Form, touching

pytestmark = pytest.mark.outside

BESIDE_WEAK = [
    form
    for weak in (b"comments", b"assets/x", b"news/1", b"partner")
    for form in touching(b"POST", b"/login", weak)
]
# The server, and whether a middleware behind the gate is sync.
STACKS = {
    "gunicorn": ("gunicorn", ""),
    "uvicorn": ("uvicorn with h11", ""),
    "uvicorn, run sync": ("uvicorn with h11", "sync"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Start each server at its first use, with one of the guards."""
    running, logs = {}, tmp_path_factory.mktemp("logs")

    def start(stack, gate):
        if (stack, gate) not in running:
            server, behind = STACKS[stack]
            log = logs / f"{len(running)}"
            environ = {"GATE": gate, "BEHIND": behind}
            context = serving(server, "gated_django_inside", log, **environ)
            running[stack, gate] = Site(contexts.enter_context(context), stack, pool)
        return running[stack, gate]

    with ThreadPoolExecutor(16) as pool, ExitStack() as contexts:
        yield start


@pytest.fixture(params=STACKS)
def site(request, served):
    return lambda gate="guard": served(request.param, gate)


def test_no_form_of_the_target_gets_around_the_gate(site):
    answers = list(site().send_all(CORPUS))
    assert reached(answers) == {}
    broken = [form for form, answer in answers if answer.status == 500]
    ungated = [answer.status for _, answer in site("").send_all(broken)]
    assert ungated == [500] * len(broken)


def test_without_the_gate_many_forms_reach_the_views(site):
    plain = {str(form): name for name, form in PROTECTED.items()}
    assert reached(site("").send_all(PROTECTED.values())) == plain
    assert len(reached(site("").send_all(LOGIN))) > 10


def test_no_weak_rule_opens_the_view_of_a_strict_one(site):
    answers = site("weak").send_all(BESIDE_WEAK, headers=lambda: pair("partner"))
    assert reached(answers) == {}


@pytest.mark.parametrize("name", PROTECTED)
def test_a_pair_opens_every_protected_view(site, name):
    answer = site().send(PROTECTED[name], *pair())
    assert (answer.status, answer.handler) == (200, name)


def test_a_preflight_without_credentials_passes(site):
    headers = (b"Origin: https://a.example", b"Access-Control-Request-Method: POST")
    preflight = Form(b"OPTIONS", b"/every", headers=headers)
    assert site().send(preflight).handler == "every"
    assert site().send(preflight, b"Cookie: session=1")[:2] == (403, "")


def form_of(picture):
    fields = {"ticket": f"tr03{os.urandom(8).hex()}", "randstr": "@r"}
    parts = [f'form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
    head = "".join(f"--B\r\nContent-Disposition: {part}" for part in parts).encode()
    file = b'--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    return head + file + picture + b"\r\n--B--\r\n"


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_an_upload_behind_its_ticket_reaches_the_view(site, size, framing):
    body = sent = form_of(os.urandom(size))
    headers = [b"Content-Type: multipart/form-data; boundary=B"]
    if framing == "length":
        headers.append(b"Content-Length: %d" % len(body))
    else:
        headers.append(b"Transfer-Encoding: chunked")
        sent = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    answer = site().send(PROTECTED["login"], *headers, body=sent)
    if framing == "chunks" and "gunicorn" in site().framework:
        assert answer.status == 400  # Django reads no chunked body under WSGI
        return
    assert json.loads(answer.body)["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_slow_client_is_disconnected_by_gunicorn(served):
    port = served("gunicorn", "slow").served.port
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        head = PROTECTED["login"].wire(
            b"Content-Type: application/x-www-form-urlencoded", b"Content-Length: 99"
        )
        connection.sendall(head.replace(b"Connection: close\r\n", b"") + b"user=")
        began, received = time.monotonic(), b""
        while piece := connection.recv(4096):
            received += piece
    assert received.startswith(b"HTTP/1.1 400")
    assert b"request_malformed" in received
    assert time.monotonic() - began < 8
