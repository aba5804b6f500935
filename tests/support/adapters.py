"""One exchange through the flow without an adapter, the ASGI adapter and the WSGI adapter.

Each runner takes a guard and an `Exchange`, and returns an `Outcome`, so one table tests all
three.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import warnings
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

from tcaptcha_middleware import Allow, TCaptchaMiddleware, TCaptchaWSGIMiddleware, get_decision
from tcaptcha_middleware.effects import (
    CallHook,
    Claim,
    ReadBody,
    Release,
    Verify,
    WaitForSlot,
)
from tcaptcha_middleware.errors import RequestBodyError
from tcaptcha_middleware.flow import decide
from tcaptcha_middleware.models import RequestInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tcaptcha_middleware import Guard

ALLOWED = "allowed"
UNCOVERED = "uncovered"


@dataclass(frozen=True)
class Exchange:
    """One request; its body in pieces as the client sent them."""

    method: str = "POST"
    target: str = "/login"
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[bytes, ...] = ()
    broken_off: bool = False
    peer: str = "203.0.113.7"

    @property
    def path(self) -> bytes:
        return unquote_to_bytes(self.target.partition("?")[0])

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


@dataclass(frozen=True)
class Outcome:
    """The outcome of an exchange: `ALLOWED`, `UNCOVERED`, or the refusal's code."""

    code: str
    status: int = 200
    body_seen: bytes = field(default=b"", repr=False)
    unchecked: str | None = None


def through_flow(guard: Guard, exchange: Exchange) -> Outcome:
    """Perform the flow's effects without an adapter."""
    rule = guard.match(exchange.method, exchange.path.decode("utf-8", "replace"))
    if rule is None:
        return Outcome(UNCOVERED, body_seen=exchange.body)
    pieces = deque(exchange.pieces or [b""])
    flow = decide(rule, _request(exchange))
    try:
        effect = next(flow)
        while True:
            try:
                result = _perform(effect, pieces, exchange)
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        decision = stop.value
    if isinstance(decision, Allow):
        return Outcome(ALLOWED, body_seen=exchange.body, unchecked=decision.unchecked)
    return Outcome(decision.reason.value, decision.reason.status)


def _request(exchange: Exchange) -> RequestInfo:
    return RequestInfo(
        kind="http",
        method=exchange.method,
        path=exchange.path.decode("utf-8", "replace"),
        query=exchange.query.encode(),
        headers=tuple((k.lower().encode(), v.encode("latin-1")) for k, v in exchange.headers),
        peer=exchange.peer,
    )


def _perform(effect: Any, pieces: Any, exchange: Exchange) -> Any:
    match effect:
        case ReadBody():
            if not pieces:
                raise RequestBodyError("broken off")
            return pieces.popleft(), bool(pieces) or exchange.broken_off
        case CallHook(hook, request):
            return hook(request)
        case WaitForSlot(slots, timeout):
            return slots.wait(timeout)
        case Claim(store, key, token, seconds):
            return store.claim(key, token, seconds)
        case Release(store, key, token):
            return store.release(key, token)
        case Verify(verifier, submission):
            return verifier.verify(submission)


def scope_of(exchange: Exchange, kind: str = "http", **more: Any) -> dict[str, Any]:
    """Return the ASGI scope of an exchange."""
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": exchange.method,
        "path": exchange.path.decode("utf-8", "replace"),
        "raw_path": exchange.target.partition("?")[0].encode(),
        "query_string": exchange.query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode("latin-1")) for k, v in exchange.headers],
        "client": (exchange.peer, 50000),
        "server": ("127.0.0.1", 80),
        "extensions": {},
    } | more


def messages_of(exchange: Exchange) -> list[dict[str, Any]]:
    """Return the messages that an ASGI server sends the application for an exchange."""
    pieces = exchange.pieces or (b"",)
    more = [True] * (len(pieces) - 1) + [exchange.broken_off]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": more_body}
        for piece, more_body in zip(pieces, more, strict=True)
    ]
    return [*messages, {"type": "http.disconnect"}] if exchange.broken_off else messages


def call_asgi(
    app: Any, scope: dict[str, Any], messages: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Run an ASGI application once; return the messages that it sent."""
    left, sent = list(messages), []

    async def main() -> None:
        answered = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not left:
                # A client that waits for its response, and then disconnects.
                await answered.wait()
                return {"type": "http.disconnect"}
            return left.pop(0)

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                answered.set()

        await asyncio.wait_for(app(scope, receive, send), timeout=10)
        if isinstance(app, TCaptchaMiddleware):
            await app.guard.aclose()

    asyncio.run(main())
    return sent


def through_asgi(guard: Guard, exchange: Exchange) -> Outcome:
    """Send the exchange through the ASGI adapter."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen["decision"], body, more = get_decision(scope), b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        seen["body"] = body
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    messages = messages_of(exchange)
    sent = call_asgi(TCaptchaMiddleware(app, guard), scope_of(exchange), messages)
    if seen:
        return _reached(seen)
    return _refused(sent[0]["status"], sent[1]["body"]) if sent else Outcome("unanswered")


class Input(io.BytesIO):
    """An input that cannot seek, like that of most servers."""

    def seekable(self) -> bool:
        return False


def environ_of(exchange: Exchange, **more: Any) -> dict[str, Any]:
    """Return the WSGI environ of an exchange, its body with a length."""
    missing = 1 if exchange.broken_off else 0
    length = {"CONTENT_LENGTH": str(len(exchange.body) + missing)} if exchange.body else {}
    headers: dict[str, list[str]] = {}
    for name, value in exchange.headers:
        key = name.upper().replace("-", "_")
        prefix = "" if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else "HTTP_"
        headers.setdefault(prefix + key, []).append(value)
    return {
        "REQUEST_METHOD": exchange.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": exchange.path.decode("latin-1"),
        "QUERY_STRING": exchange.query,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": exchange.peer,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": Input(exchange.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **length,
        **{key: ",".join(values) for key, values in headers.items()},
        **more,
    }


def call_wsgi(app: Any, environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Run a WSGI application once, inside the standard library's validator."""
    head: dict[str, Any] = {}

    def start_response(
        status: str, headers: list[tuple[str, str]], error: Any = None
    ) -> Callable[[bytes], None]:
        head.update(status=int(status[:3]), headers=dict(headers))
        return lambda _: None

    with warnings.catch_warnings():
        # The validator rejects lower-case methods; some servers pass them on.
        warnings.filterwarnings("ignore", "Unknown REQUEST_METHOD")
        answer = validator(app)(environ, start_response)
    try:
        body = b"".join(answer)
    finally:
        answer.close()  # type: ignore[attr-defined]
    return head["status"], head["headers"], body


def through_wsgi(guard: Guard, exchange: Exchange) -> Outcome:
    """Send the exchange through the WSGI adapter, with a validator around and inside it."""
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        seen.update(decision=get_decision(environ), body=environ["wsgi.input"].read(length))
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]

    inner = validator(app)
    adapter = TCaptchaWSGIMiddleware(inner, guard)
    status, _, body = call_wsgi(adapter, environ_of(exchange))
    return _reached(seen) if seen else _refused(status, body)


def _reached(seen: dict[str, Any]) -> Outcome:
    decision = seen["decision"]
    if decision is None:
        return Outcome(UNCOVERED, body_seen=seen["body"])
    return Outcome(ALLOWED, body_seen=seen["body"], unchecked=decision.unchecked)


def _refused(status: int, body: bytes) -> Outcome:
    html = re.search(rb"<small>(\w+)</small>", body)
    return Outcome(html[1].decode() if html else json.loads(body)["code"], status)


RUNNERS = {"flow": through_flow, "asgi": through_asgi, "wsgi": through_wsgi}
