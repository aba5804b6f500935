"""Servers at Tencent's address, on real sockets: the emulator, and broken ones."""

from __future__ import annotations

import logging
import socket
import ssl
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress

import httpx
import pytest

from tcaptcha_middleware import Submission
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.testing.emulator._http import serving

VISITOR = "203.0.113.7"
VERDICT = b'{"Response":{"CaptchaCode":1,"EvilLevel":0,"RequestId":"r"}}'


class Tencent(TencentEmulator):
    """The emulator, which also records the connections and headers of calls."""

    kind = "web"

    def __init__(self, origin="", **settings):
        super().__init__(**settings)
        self.origin = origin
        self.heads = []
        self.connections = set()

    async def __call__(self, scope, receive, send):
        self.heads.append({k.decode(): v.decode() for k, v in scope["headers"]})
        self.connections.add(tuple(scope["client"]))
        await super().__call__(scope, receive, send)

    def ticket(self, randstr=None, user_ip=VISITOR, **properties):
        pair = {"randstr": ""} | self.mint(kind=self.kind, **properties)
        return Submission(pair["ticket"], randstr or pair["randstr"], user_ip)

    def arguments(self, **other):
        return self.settings | {"endpoint": self.origin} | other


class Address:
    """A server that listens for a whole module; each test sets the application behind it."""

    def __init__(self):
        self.app = None

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception:
            # The server does not log it, and responds with 500.
            logging.getLogger(__name__).exception("the test double failed")
            raise


@pytest.fixture(scope="module")
def address():
    address = Address()
    with serving(address, lifespan="off") as address.origin:
        yield address


@pytest.fixture
def tencent(address):
    address.app = Tencent(address.origin)
    return address.app


@pytest.fixture(scope="session")
def one_context():
    return httpx.create_ssl_context()


@pytest.fixture
def shared_tls(monkeypatch, one_context):
    """Share one TLS context: loading certificates takes longer than a verification."""
    monkeypatch.setattr(
        "tcaptcha_middleware.verifiers.tencent.default_context", lambda: one_context
    )


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    files = ["-keyout", "key.pem", "-out", "certificate.pem"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    run = ["openssl", "req", *kind, *subject, *files]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture
def speaks_tls(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


@pytest.fixture
def trusted_tls(speaks_tls, certificate, monkeypatch):
    """Return a TLS context for servers that verifiers trust."""
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(
        "tcaptcha_middleware.verifiers.tencent.default_context", lambda: trusting
    )
    return speaks_tls


def http(body=VERDICT, status="200 OK", *headers):
    """Return an answer as bytes."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", "")
    return "\r\n".join(lines).encode() + body


def says(answer):
    """Answer every call on a connection with the same bytes, once its JSON is there."""

    def speak(connection):
        while call := connection.recv(65536):
            if call.endswith(b"}"):
                connection.sendall(answer)

    return speak


def drips(answer, pause=0.05):
    """Answer one byte at a time, so no single read takes long."""

    def speak(connection):
        connection.recv(65536)
        for byte in answer:
            connection.sendall(bytes([byte]))
            time.sleep(pause)

    return speak


def hangs_up(connection):
    """Read the call, and close."""
    connection.recv(65536)


@contextmanager
def answering(speak, tls=None):
    """Serve each connection with `speak` in a separate thread; yield the origin."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads = []

    def serve(connection):
        with suppress(OSError), closing(connection):
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            with closing(connection):
                speak(connection)

    def accept():
        with suppress(OSError):
            while True:
                connection = listener.accept()[0]
                connection.settimeout(5)
                threads.append(threading.Thread(target=serve, args=[connection]))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        scheme = "http" if tls is None else "https"
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Closing alone wakes no thread that waits in accept.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in (accepting, *threads):
            thread.join()


def nowhere():
    """Return an origin without a server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://127.0.0.1:{free.getsockname()[1]}"
