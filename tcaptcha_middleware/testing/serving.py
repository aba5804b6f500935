"""An ASGI application on a real socket, served from a thread."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from tcaptcha_middleware.extras import needs

if TYPE_CHECKING:
    from collections.abc import Iterator

_GRACE = 1
"""How long the end waits for answers under way, in seconds; their clients may be long gone."""

_KEPT = 75
"""How long an idle connection is kept, in seconds; longer than by those who call, because one
that ends just when it is used costs a ticket."""

_BACKLOG = 2048


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
