"""The measured applications, with and without the gate, and the gate's verifier and store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from tcaptcha_middleware import Guard, Submission, TCaptchaMiddleware, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LENGTH = 2


class Instant:
    """A verifier that costs nothing."""

    _verdict = Verdict(1)

    def verify(self, _: Submission) -> Verdict:
        """Pass every ticket."""
        return self._verdict

    async def averify(self, _: Submission) -> Verdict:
        """Pass every ticket."""
        return self._verdict


class Anyhow:
    """A replay store that lets one ticket be spent again and again, as load generators do."""

    def claim(self, *_: object) -> bool:
        """Accept every claim."""
        return True

    async def aclaim(self, *_: object) -> bool:
        """Accept every claim."""
        return True

    def release(self, *_: object) -> None:
        """Keep nothing."""

    async def arelease(self, *_: object) -> None:
        """Keep nothing."""


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Read the body if there is one; respond with two bytes."""
    if scope["type"] != "http":
        return
    while scope["method"] == "POST" and (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % _LENGTH)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})


def wsgi_bare(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Read the body if there is one; respond with two bytes."""
    left = int(environ.get("CONTENT_LENGTH") or 0)
    while left and (piece := environ["wsgi.input"].read(min(left, 65536))):
        left -= len(piece)
    headers = [("Content-Type", "text/plain"), ("Content-Length", str(_LENGTH))]
    start_response("200 OK", headers)
    return [b"ok"]


class NoOp:
    """A middleware that does nothing: the lowest possible cost."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass everything on."""
        await self.app(scope, receive, send)


class ByHand:
    """A minimal check for one endpoint, written by hand: the cost of plain Python.

    Args:
        app: The application.
        once: If a pair is accepted only once; load generators send the same pair repeatedly.
    """

    def __init__(self, app: Any, *, once: bool = True) -> None:
        self.app = app
        self._once = once
        self._verifier = Instant()
        self._spent: set[tuple[str, str]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Find the pair in headers or JSON, have it verified if it is new, pass it on."""
        if scope["path"] != "/login":
            await self.app(scope, receive, send)
            return
        pair = _in_headers(scope)
        if pair is None:
            message = await receive()
            document = json.loads(message["body"])
            pair = document["ticket"], document["randstr"]

            async def receive() -> Any:
                return message

        ticket = Submission(*pair, scope["client"][0])
        if self._spend(pair) and (await self._verifier.averify(ticket)).passed:
            await self.app(scope, receive, send)

    def _spend(self, pair: tuple[str, str]) -> bool:
        if self._once and pair in self._spent:
            return False
        self._spent.add(pair)
        return True


def _in_headers(scope: Any) -> tuple[str, str] | None:
    ticket = randstr = None
    for name, value in scope["headers"]:
        if name == b"x-captcha-ticket":
            ticket = value.decode()
        elif name == b"x-captcha-randstr":
            randstr = value.decode()
    return None if ticket is None or randstr is None else (ticket, randstr)


no_op = NoOp(bare)
by_hand = ByHand(bare, once=False)
trusted_host = TrustedHostMiddleware(bare, ["127.0.0.1"])
cors = CORSMiddleware(bare, ["https://shop.example"])
gated = TCaptchaMiddleware(bare, Guard(["POST /login"], Instant(), replay_store=Anyhow()))
gated_for_every_method = TCaptchaMiddleware(bare, Guard(["/login"], Instant()))
