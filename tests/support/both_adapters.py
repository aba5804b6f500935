"""One request through each adapter, and its whole response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from adapters import call_asgi, call_wsgi, environ_of, messages_of, scope_of

from tcaptcha_middleware import TCaptchaMiddleware, TCaptchaWSGIMiddleware

if TYPE_CHECKING:
    from adapters import Exchange

    from tcaptcha_middleware import Guard

APPLICATION = (299, b"the application")


class Answer(NamedTuple):
    """A response, with the names of its headers in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": APPLICATION[0], "headers": []})
    await send({"type": "http.response.body", "body": APPLICATION[1]})


def _wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response(f"{APPLICATION[0]} Here", [("Content-Type", "text/plain")])
    return [APPLICATION[1]]


def through_asgi(guard: Guard, exchange: Exchange, root: str = "") -> Answer:
    """Send a request through the ASGI adapter, mounted at `root`, which the path includes."""
    scope, mount = scope_of(exchange, root_path=root), root.rstrip("/")
    scope["path"] = mount + scope["path"]
    scope["raw_path"] = mount.encode() + scope["raw_path"]
    start, end = call_asgi(TCaptchaMiddleware(_asgi, guard), scope, messages_of(exchange))
    headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], headers, end["body"])


def through_wsgi(guard: Guard, exchange: Exchange, root: str = "") -> Answer:
    """Send a request through the WSGI adapter, mounted at `root`; SCRIPT_NAME is the mount."""
    environ = environ_of(exchange, SCRIPT_NAME=root)
    status, headers, body = call_wsgi(TCaptchaWSGIMiddleware(_wsgi, guard), environ)
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body)


ADAPTERS = {"asgi": through_asgi, "wsgi": through_wsgi}
