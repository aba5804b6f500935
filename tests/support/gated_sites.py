"""Servers that a test module starts once, and requests to the applications behind them.

A module that imports the fixtures names its servers, and the application of each, in `MODULES`.
"""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import pytest
from served import serving
from target_forms import CORPUS, PROTECTED

if TYPE_CHECKING:
    from served import Served

NUMBERS = count()
UPGRADE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class Answer(NamedTuple):
    """A response; the status is 0 if the server closed without one."""

    status: int = 0
    handler: str = ""
    head: bytes = b""
    body: bytes = b""


class Site(NamedTuple):
    """One framework under one server."""

    served: Served
    framework: str
    pool: ThreadPoolExecutor

    def send(self, form, *headers, body=b"", gate="", end=b""):
        app = f"X-App: {self.framework} {gate}".strip().encode()
        return exchange(self.served.port, form.wire(app, *headers, body=body), end)

    def send_all(self, corpus, gate="", headers=lambda: ()):
        return self.pool.map(
            lambda form: (form, self.send(form, *headers(), gate=gate)), corpus
        )

    def shake(self, form, gate=""):
        """Try the handshake of a websocket."""
        return self.send(form, *UPGRADE, gate=gate, end=b"\r\n\r\n").status

    def shake_all(self, corpus, gate=""):
        answers = self.pool.map(lambda form: (form, self.shake(form, gate)), corpus)
        return [str(form) for form, status in answers if status == 101]


def pair(prefix="tr03"):
    """Return the headers of a ticket that no request has sent yet."""
    ticket = f"X-Captcha-Ticket: {prefix}{next(NUMBERS)}"
    return ticket.encode(), b"X-Captcha-Randstr: @r"


def exchange(port, request, end=b""):
    """Send a request, and read until the server closes or `end` has come."""
    received = b""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(request)
            while piece := connection.recv(64 * 1024):
                received += piece
                if end and end in received:
                    break
    except ConnectionError:
        pass
    return parsed(received)


def parsed(received):
    head, _, body = received.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.\d (\d+)", head)
    handler = re.search(rb"(?i)\r\nx-handler: (\w+)", head)
    return Answer(
        int(status[1]) if status else 0, handler[1].decode() if handler else "", head, body
    )


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(16) as pool:
        yield pool


@pytest.fixture(scope="module")
def serve(request, tmp_path_factory):
    """Start each server at its first use; an ASGI server has to end its lifespan."""
    logs, running = tmp_path_factory.mktemp("logs"), {}
    modules = request.module.MODULES

    def served(server):
        if server not in running:
            context = serving(server, modules[server], logs / server)
            running[server] = stack.enter_context(context)
        return running[server]

    with ExitStack() as stack:
        yield served
    texts = {s: site.log.read_text() for s, site in running.items() if "asgi" in modules[s]}
    assert [s for s, text in texts.items() if "the lifespan is over" not in text] == []


@pytest.fixture
def site(serve, pool, server, framework):
    return Site(serve(server), framework, pool)


def reached(answers):
    """Return which forms reached which of the protected handlers."""
    return {str(form): a.handler for form, a in answers if a.handler in PROTECTED}


@pytest.fixture(scope="module")
def gated_answers():
    """Send the whole corpus to the gate of each pair once."""
    return cache(lambda site: list(site.send_all(CORPUS)))
