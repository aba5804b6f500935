"""The emulator's side of HTTP: plain values in place of ASGI messages, and a server.

Knows nothing of captchas.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio

from tcaptcha_middleware.extras import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware.asgi import Receive, Scope, Send

_GRACE = 1
"""How long the end waits for answers under way, in seconds; their clients may be long gone."""

_KEPT = 75
"""How long an idle connection is kept, in seconds; longer than by those who call, because one
that ends just when it is used costs a ticket."""

_BACKLOG = 2048

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


@contextmanager
def serving(
    app: Any, host: str = "127.0.0.1", port: int = 0, lifespan: Literal["auto", "off"] = "auto"
) -> Iterator[str]:
    """Serve `app` with uvicorn for as long as the context lasts; gives its origin.

    Args:
        app: The ASGI application.
        host: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        lifespan: Whether the application is told of the server's start and end.

    Raises:
        ModuleNotFoundError: uvicorn is not installed; it comes with the extra `demo`.
        OSError: The port is in use, or the address is not this machine's.
        RuntimeError: The server did not start.
    """
    with needs("demo"):
        import uvicorn

    with _listening(host, port) as listener:
        config = uvicorn.Config(
            app,
            log_level="critical",
            lifespan=lifespan,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=_KEPT,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _wait(server, thread)
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Said to be TCP, or asyncio leaves Nagle's algorithm on and each answer takes 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            # Here rather than in the thread: of two that bound the same port, one fails here.
            listener.listen(_BACKLOG)
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen on {host}:{port}: {error.strerror}"
            ) from error
        yield listener


def _wait(server: Any, thread: threading.Thread) -> None:
    while not server.started:
        if not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
