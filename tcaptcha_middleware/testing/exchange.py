"""The emulator's side of ASGI: what comes in as plain values, what goes out as messages.

Knows nothing of captchas.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

if TYPE_CHECKING:
    from tcaptcha_middleware.asgi import Receive, Scope, Send

_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED)


class Answer(NamedTuple):
    """One HTTP answer.

    Attributes:
        status: Its status.
        body: Its body; not sent where the status has none.
        content_type: Its media type.
        dropped: Whether the connection breaks off before the body's end.
        allow: The methods that may be used instead, where that is what is wrong.
        headers: Its other headers, names in lower case.
        latency: How long it is held back, in seconds.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    dropped: bool = False
    allow: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    latency: float = 0


def in_json(status: int, content: object) -> Answer:
    """Return an answer that holds `content`."""
    return Answer(status, json.dumps(content).encode())


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers, names in lower case; what comes twice is joined by commas.

    https://www.rfc-editor.org/rfc/rfc9110#section-5.3
    """
    found: dict[str, str] = {}
    for key, raw in scope["headers"]:
        name, value = key.decode("latin-1").lower(), raw.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def body_of(receive: Receive, limit: int) -> bytes | None:
    """Return the body, or None where the client went before its end.

    Args:
        receive: The exchange's.
        limit: How many bytes may be kept; of a longer body, one more is returned.
    """
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")[: limit + 1 - len(body)]
        more = message.get("more_body", False)
    return bytes(body)


async def respond(send: Send, answer: Answer) -> None:
    """Send `answer` when it is time.

    Raises:
        ConnectionResetError: It is one to break off; the server then closes the connection.
    """
    await anyio.sleep(answer.latency)
    body = b"" if answer.status in _WITHOUT_BODY else answer.body
    # One byte more than comes, or the client would take what came for the whole.
    length = len(body) + answer.dropped
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", str(length).encode()),
    ]
    if answer.allow:
        headers.append((b"allow", answer.allow.encode()))
    headers += [(name.encode(), value.encode()) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": answer.dropped})
    if answer.dropped:
        raise ConnectionResetError("broken off, as scripted")


async def live(receive: Receive, send: Send) -> None:
    """Follow the server's life, with nothing to start and nothing to end."""
    message: dict[str, Any] = {"type": ""}
    while message["type"] != "lifespan.shutdown":
        message = dict(await receive())
        await send({"type": f"{message['type']}.complete"})


async def turn_away(receive: Receive, send: Send) -> None:
    """Refuse a websocket's handshake; the server answers it with HTTP 403."""
    await receive()
    await send({"type": "websocket.close"})
