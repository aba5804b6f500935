"""HTTP for the emulator: plain values instead of ASGI messages, and a server in a thread.

Contains nothing about captchas.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio

from tcaptcha_middleware.errors import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware.asgi import Receive, Scope, Send

_GRACE = 1
"""Seconds that shutdown waits for open responses; their clients may be long gone."""

_KEEP_ALIVE = 75
"""Seconds that an idle connection is kept. Longer than clients keep theirs, because a server
that closes a connection just as it is reused costs a ticket."""

_BACKLOG = 2048
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED)


class Response(NamedTuple):
    """An HTTP response.

    Attributes:
        status: The HTTP status.
        body: The body; not sent with a status that forbids one.
        content_type: The media type.
        dropped: If the connection is closed before the end of the body.
        allow: The allowed methods, for a 405.
        headers: Further headers, names in lower case.
        latency: Seconds to wait before the response is sent.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    dropped: bool = False
    allow: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    latency: float = 0


def json_response(status: int, content: object) -> Response:
    """Return a response with `content` as JSON."""
    return Response(status, json.dumps(content).encode())


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones are joined by commas.

    https://www.rfc-editor.org/rfc/rfc9110#section-5.3
    """
    headers: dict[str, str] = {}
    for key, raw in scope["headers"]:
        name, value = key.decode("latin-1").lower(), raw.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """Return the body, or None if the client disconnects first.

    Args:
        receive: The ASGI callable.
        limit: Maximum size in bytes; a longer body is cut one byte after the limit.
    """
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")[: limit + 1 - len(body)]
        more = message.get("more_body", False)
    return bytes(body)


async def send_response(send: Send, response: Response) -> None:
    """Send `response` after its latency.

    Raises:
        ConnectionResetError: If the response is dropped; the server then closes the
            connection.
    """
    await anyio.sleep(response.latency)
    body = b"" if response.status in _WITHOUT_BODY else response.body
    # One byte more than is sent, or the client would take the body for complete.
    length = len(body) + response.dropped
    headers = [
        (b"content-type", response.content_type.encode()),
        (b"content-length", str(length).encode()),
    ]
    if response.allow:
        headers.append((b"allow", response.allow.encode()))
    headers += [(name.encode(), value.encode()) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": response.dropped})
    if response.dropped:
        raise ConnectionResetError("connection dropped by a scripted step")


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's lifespan messages; there is nothing to start or stop."""
    message: dict[str, Any] = {"type": ""}
    while message["type"] != "lifespan.shutdown":
        message = dict(await receive())
        await send({"type": f"{message['type']}.complete"})


@contextmanager
def serving(
    app: Any, host: str = "127.0.0.1", port: int = 0, lifespan: Literal["auto", "off"] = "auto"
) -> Iterator[str]:
    """Serve an ASGI app with uvicorn in a thread, and yield its origin.

    Args:
        app: The ASGI application.
        host: The address to listen on.
        port: The port to listen on; 0 picks a free one.
        lifespan: `"off"` sends the application no lifespan messages.

    Raises:
        ModuleNotFoundError: If uvicorn is not installed; the extra `demo` installs it.
        OSError: If the port is in use, or the address belongs to another machine.
        RuntimeError: If the server does not start.
    """
    with needs("demo"):
        import uvicorn
    with _listening(host, port) as listener:
        config = uvicorn.Config(
            app,
            log_level="critical",
            lifespan=lifespan,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("the server did not start")
                time.sleep(0.005)
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without it each response takes 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            # Here and not in the thread: two sockets may bind one port, only one may listen.
            listener.listen(_BACKLOG)
        except OSError as error:
            fix = ": choose another port" if error.errno == errno.EADDRINUSE else ""
            message = f"cannot listen on {host}:{port} ({error.strerror}){fix}"
            raise OSError(error.errno, message) from error
        yield listener
