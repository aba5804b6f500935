"""One request through guards around an application, and the raw request that it saw.

The two adapters take the same arguments and return the same `Result`, so one table tests both.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapters import environ_of, messages_of, scope_of

from tcaptcha_middleware import TCaptchaMiddleware, TCaptchaWSGIMiddleware, get_decision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapters import Exchange

    from tcaptcha_middleware import Allow, Guard


@dataclass
class Result:
    """The result of a request.

    Attributes:
        holder: The scope or environ that the outermost guard got, as it is afterwards.
        key: The key of the decision in it.
        seen: The scope or environ that the application got, or None if it was not reached.
        received: The messages or the body that the application read.
        status: The status or the close code that was sent; 0 if nothing was sent.
        body: The response's body.
    """

    holder: dict[str, Any]
    key: str
    seen: dict[str, Any] | None = None
    received: Any = None
    status: int = 0
    body: bytes = field(default=b"", repr=False)

    @property
    def code(self) -> str:
        """The refusal's code; `"reached"` if the application was reached."""
        if self.seen is not None:
            return "reached"
        return json.loads(self.body)["code"] if self.body else "unanswered"

    @property
    def decision(self) -> Allow | None:
        """What the application sees of the innermost decision."""
        assert self.seen is not None
        return get_decision(self.seen)


def through_asgi(
    guards: Guard | Sequence[Guard],
    exchange: Exchange,
    *,
    between: Exchange | None = None,
    messages: Sequence[dict[str, Any]] | None = None,
    kind: str = "http",
    more: dict[str, Any] | None = None,
) -> Result:
    """Send a request through the ASGI adapter.

    Args:
        guards: One guard, or several, the outermost first.
        exchange: The request.
        between: What a middleware behind the outermost guard turns it into: its method, path,
            and headers.
        messages: What the server receives; the exchange's body by default.
        kind: The scope's type.
        more: Other values of the scope.
    """
    scope = scope_of(exchange, kind) | (more or {})
    result = Result(scope, "tcaptcha")
    left = list(messages_of(exchange) if messages is None else messages)

    async def app(scope: Any, receive: Any, _: Any) -> None:
        result.seen, result.received = dict(scope), []
        while kind == "http":
            message = await receive()
            result.received.append(message)
            if not message.get("more_body"):
                break

    stack: Any = app
    for guard in reversed([guards] if not isinstance(guards, (list, tuple)) else guards):
        if between is not None and stack is not app:
            stack = _asgi_override(stack, between)
        stack = TCaptchaMiddleware(stack, guard)

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: dict[str, Any]) -> None:
        result.status = message.get("status") or message.get("code") or result.status
        result.body += message.get("body", b"")

    asyncio.run(stack(scope, receive, send))
    return result


def _asgi_override(app: Any, exchange: Exchange) -> Any:
    changed = scope_of(exchange)

    async def override(scope: Any, receive: Any, send: Any) -> None:
        names = "method", "path", "raw_path", "headers"
        await app(scope | {name: changed[name] for name in names}, receive, send)

    return override


def through_wsgi(
    guards: Guard | Sequence[Guard],
    exchange: Exchange,
    *,
    between: Exchange | None = None,
    more: dict[str, Any] | None = None,
) -> Result:
    """Send a request through the WSGI adapter; the arguments are those of `through_asgi`."""
    environ = environ_of(exchange) | (more or {})
    result = Result(environ, "tcaptcha.decision")

    def app(environ: Any, start_response: Any) -> list[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        result.seen, result.received = dict(environ), environ["wsgi.input"].read(length)
        return []

    stack: Any = app
    for guard in reversed([guards] if not isinstance(guards, (list, tuple)) else guards):
        if between is not None and stack is not app:
            stack = _wsgi_override(stack, between)
        stack = TCaptchaWSGIMiddleware(stack, guard)

    def start_response(line: str, _: Any) -> None:
        result.status = int(line[:3])

    result.body = b"".join(stack(environ, start_response))
    return result


def _wsgi_override(app: Any, exchange: Exchange) -> Any:
    changed = environ_of(exchange)

    def override(environ: Any, start_response: Any) -> Any:
        environ["REQUEST_METHOD"] = changed["REQUEST_METHOD"]
        environ["PATH_INFO"] = changed["PATH_INFO"]
        environ.update({key: changed[key] for key in changed if key.startswith("HTTP_")})
        return app(environ, start_response)

    return override


ADAPTERS = {"asgi": through_asgi, "wsgi": through_wsgi}
