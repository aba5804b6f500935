"""One protected application for all adapters, whose process can be disturbed.

`POST /login` is protected. The file `STATES` notes each change of the verifier's health, with
its time.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from contextlib import suppress

from tcaptcha_middleware import (
    CaptchaInfo,
    Guard,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
    TencentVerifier,
    TrustedProxies,
    get_decision,
)
from tcaptcha_middleware.replay.redis import RedisReplayStore
from tcaptcha_middleware.verifiers.threads import in_thread

logging.basicConfig(level=logging.INFO)

APP_ID = 190000000
_FILES_LEFT = 3


def _note(event):
    if event.outcome == "health":
        line = json.dumps([time.monotonic(), event.reason])
        file = os.open(os.environ["STATES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode() + b"\n")
        os.close(file)


class _Stuck:
    """A sync verifier whose calls take longer than a test."""

    captcha = CaptchaInfo(APP_ID)

    def verify(self, ticket):
        time.sleep(60)


_look_up = socket.getaddrinfo


def _stuck_look_up(host, *args, **kwargs):
    """Resolve addresses at once, and names too late."""
    if host == "localhost":
        time.sleep(60)
    return _look_up(host, *args, **kwargs)


def _official(settings):
    """Return a verifier that uses the official client, whose calls end after a minute."""
    from tencentcloud.captcha.v20190722.captcha_client import CaptchaClient
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile

    from tcaptcha_middleware.verifiers.sdk import TencentSDKVerifier

    protocol, _, address = settings["endpoint"].partition("://")
    http = HttpProfile(endpoint=address, protocol=protocol, reqTimeout=60)
    credential = Credential(settings["secret_id"], settings["secret_key"])
    client = CaptchaClient(credential, "", ClientProfile(httpProfile=http))
    return TencentSDKVerifier(client, settings["app_id"], settings["app_secret_key"])


def _verifier():
    kind = os.environ.get("VERIFIER", "tencent")
    settings = {
        "app_id": APP_ID,
        "app_secret_key": "hostile-app-secret",
        "secret_id": "AKIDhostile",
        "secret_key": "hostile-key",
        "endpoint": os.environ["ENDPOINT"],
        "timeout": float(os.environ.get("TIMEOUT", "5")),
    }
    if kind == "stuck thread":
        return in_thread(_Stuck())
    if kind == "official client":
        return in_thread(_official(settings))
    if kind == "stuck name":
        socket.getaddrinfo = _stuck_look_up
    return TencentVerifier(**settings)


GUARD = Guard(
    ["POST /login"],
    _verifier(),
    replay_store=RedisReplayStore(os.environ["REDIS"], prefix=os.environ["PREFIX"]),
    on_unavailable=os.environ.get("ON_UNAVAILABLE", "deny"),
    disaster_tickets=os.environ.get("DISASTER_TICKETS", "deny"),
    allow_per_minute=int(os.environ.get("ALLOW_PER_MINUTE", "1000")),
    check_timeout=float(os.environ.get("CHECK_TIMEOUT", "10")),
    client_ip=TrustedProxies(["127.0.0.0/8"]),
    on_event=_note,
)


def _exhaust_files(seconds: float) -> None:
    """Leave only a few files free, for so many seconds."""
    files = []
    with suppress(OSError):
        while True:
            files.append(os.dup(1))
    spare = [files.pop() for _ in range(_FILES_LEFT)]

    def close(those):
        for file in those:
            os.close(file)

    threading.Timer(seconds, close, [files]).start()
    close(spare)


def _act(path: str, query: str) -> bytes:
    if path == "/pid":
        return str(os.getpid()).encode()
    if path == "/block":
        time.sleep(float(query))  # blocks the event loop
    elif path == "/exhaust":
        _exhaust_files(float(query))
    return b"{}"


async def _asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["method"] == "POST":
        body = _decided(scope)
    else:
        body = _act(scope["path"], scope["query_string"].decode())
    length = str(len(body)).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", length)],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _wsgi(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        body = _decided(environ)
    else:
        body = _act(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def _decided(request) -> bytes:
    return json.dumps({"unchecked": get_decision(request).unchecked or ""}).encode()


asgi = TCaptchaMiddleware(_asgi, GUARD)
if hasattr(GUARD.verifier, "verify"):
    wsgi = TCaptchaWSGIMiddleware(_wsgi, GUARD)
