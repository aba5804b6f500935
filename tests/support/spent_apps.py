"""One protected application for ASGI and WSGI, for processes that share Redis and Tencent.

`POST /spend` notes each ticket that reached it in the file `RAN`.
"""

from __future__ import annotations

import os

from tcaptcha_middleware import (
    Guard,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TencentVerifier,
)
from tcaptcha_middleware.replay.redis import RedisReplayStore

# Long, so a busy machine is not taken for an outage.
GUARD = Guard(
    ["POST /spend"],
    TencentVerifier.from_env(timeout=30),
    replay_store=RedisReplayStore(os.environ["REDIS"], timeout=30),
    max_checks=int(os.environ.get("MAX_CHECKS", "256")),
)


def note(ticket):
    # Appending one line to a file is atomic, even if other processes write to it.
    file = os.open(os.environ["RAN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, ticket + b"\n")
    os.close(file)


async def _asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["method"] == "POST":
        note(dict(scope["headers"])[b"x-captcha-ticket"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _wsgi(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        note(environ["HTTP_X_CAPTCHA_TICKET"].encode())
    start_response("200 OK", [("Content-Length", "2")])
    return [b"{}"]


asgi = TCaptchaMiddleware(_asgi, GUARD)
wsgi = TCaptchaWSGIMiddleware(_wsgi, GUARD)
