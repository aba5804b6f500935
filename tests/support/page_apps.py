"""A protected application for ASGI and WSGI whose gate serves tcaptcha.js."""

from __future__ import annotations

import sys
from wsgiref.simple_server import make_server

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

GUARD = Guard(["/**"], FakeVerifier(), page="/tcaptcha")


async def _asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def _wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"inside"]


asgi = TCaptchaMiddleware(_asgi, GUARD)
wsgi = TCaptchaWSGIMiddleware(_wsgi, GUARD)

if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), wsgi).serve_forever()
