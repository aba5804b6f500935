"""One protected application, for ASGI and WSGI, that reports the body that it received.

`/echo` reads it all, then returns its length and hash; `/begun` responds before it reads;
`/early` never reads; `/discard` counts. `/ran` is open, and lists the targets that were called.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from wsgiref.simple_server import make_server

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

BODY_TIMEOUT = float(os.environ.get("BODY_TIMEOUT", "1"))
GUARD = Guard(["POST /**"], FakeVerifier(), body_timeout=BODY_TIMEOUT)
PIECE = 64 * 1024
ran: list[str] = []


class Count:
    """The part of a body that was received."""

    def __init__(self, path):
        self._hash = hashlib.sha256() if path != "/discard" else None
        self._told = {"length": 0, "messages": 0}

    def add(self, piece):
        self._told["length"] += len(piece)
        self._told["messages"] += 1
        if self._hash is not None:
            self._hash.update(piece)

    def tell(self):
        digest = self._hash.hexdigest() if self._hash is not None else ""
        return json.dumps(self._told | {"sha256": digest}).encode()


async def _asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    path = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if path == "/begun":
        await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
    await send({"type": "http.response.body", "body": await _asgi_tell(scope, receive)})


async def _asgi_tell(scope, receive):
    path, count = scope["path"], Count(scope["path"])
    if scope["method"] == "GET":
        return json.dumps(ran).encode()
    ran.append(scope["query_string"].decode())
    more = path != "/early"
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return b"gone"
        count.add(message.get("body", b""))
        more = message.get("more_body", False)
    return count.tell()


def _wsgi(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/begun":
        yield b"begun\n"
    yield _wsgi_tell(environ)


def _wsgi_tell(environ):
    path, count = environ["PATH_INFO"], Count(environ["PATH_INFO"])
    if environ["REQUEST_METHOD"] == "GET":
        return json.dumps(ran).encode()
    ran.append(environ["QUERY_STRING"])
    while path != "/early" and (piece := environ["wsgi.input"].read(PIECE)):
        count.add(piece)
    return count.tell()


asgi = TCaptchaMiddleware(_asgi, GUARD)
wsgi = TCaptchaWSGIMiddleware(_wsgi, GUARD)

if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), wsgi).serve_forever()
