"""The applications that are measured, bare and gated, and what stands in behind the gate."""

from __future__ import annotations

import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tcaptcha_middleware import (
    Guard,
    TCaptchaMiddleware,
    Ticket,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LENGTH = 2


class Instant:
    """A verifier that costs nothing."""

    _verdict = Verdict(1)

    def verify(self, _: Ticket) -> Verdict:
        """Let everyone pass."""
        return self._verdict

    async def averify(self, _: Ticket) -> Verdict:
        """Let everyone pass."""
        return self._verdict


class Anyhow:
    """A claims store that lets one ticket be spent again and again, as load generators do."""

    def claim(self, *_: object) -> bool:
        """Let everyone have it."""
        return True

    async def aclaim(self, *_: object) -> bool:
        """Let everyone have it."""
        return True


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Answer two bytes, whatever was asked; read the body if there is one."""
    if scope["type"] != "http":
        return
    while scope["method"] == "POST" and (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % _LENGTH)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def wsgi_bare(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer two bytes, whatever was asked; read the body if there is one."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left and (piece := environ["wsgi.input"].read(min(left, 65536))):
        left -= len(piece)
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(_LENGTH))]
    start_response("200 OK", headers)
    return [b"ok"]


class NoOp:
    """A middleware that does nothing, the least that one can cost."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass everything on."""
        await self.app(scope, receive, send)


class ByHand:
    """The least that a check comes to: one endpoint, by hand, and none of the care."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._verifier = Instant()
        self._spent: dict[str, float] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Find the pair in headers or JSON, spend it, have it verified, pass the request on."""
        if scope["path"] != "/login":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        ticket, randstr = headers.get(b"x-captcha-ticket"), headers.get(b"x-captcha-randstr")
        if ticket is None or randstr is None:
            message = await receive()
            document = json.loads(message["body"])
            ticket, randstr = document["ticket"].encode(), document["randstr"].encode()

            async def receive() -> Any:
                return message

        self._spent[hashlib.sha256(ticket + randstr).hexdigest()] = time.monotonic()
        pair = Ticket(ticket.decode(), randstr.decode(), scope["client"][0])
        verdict = await self._verifier.averify(pair)
        if verdict.passed:
            await self.app(scope, receive, send)


no_op = NoOp(bare)
by_hand = ByHand(bare)
trusted_host = TrustedHostMiddleware(bare, ["127.0.0.1"])
cors = CORSMiddleware(bare, ["https://shop.example"])
gated = TCaptchaMiddleware(bare, Guard(["POST /login"], Instant(), claims=Anyhow()))
gated_for_every_method = TCaptchaMiddleware(bare, Guard(["/login"], Instant()))
