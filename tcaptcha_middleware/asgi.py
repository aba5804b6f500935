"""The ASGI face: fetches what the walk asks for, and acts on its decision. Holds no policy.

https://asgi.readthedocs.io/en/stable/specs/www.html
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

import anyio

from tcaptcha_middleware.effects import CallHook, Claim, ReadBody, Verify
from tcaptcha_middleware.errors import ConfigurationError, RequestBodyError
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.models import Allow, RequestInfo, raw_name
from tcaptcha_middleware.responses import PlainResponse, framed
from tcaptcha_middleware.timeouts import within
from tcaptcha_middleware.validation import check_asgi

if TYPE_CHECKING:
    from tcaptcha_middleware.effects import Effect
    from tcaptcha_middleware.models import Decision
    from tcaptcha_middleware.rules import CompiledRule

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Frameworks type their scopes in ways of their own.
App = Callable[[Any, Any, Any], Awaitable[None]]

SCOPE_KEY = "tcaptcha"

# RFC 6455, section 7.4.1: "an endpoint is terminating because of a policy".
_POLICY_VIOLATION = 1008


class TCaptchaMiddleware:
    """Let only requests with a solved captcha through to an ASGI application.

    Gates HTTP requests and websocket handshakes by the guard's rules; every other scope
    passes untouched. When the server shuts down, the guard is closed.

    Args:
        app: The application to protect.
        guard: What to protect, and how.

    Raises:
        ConfigurationError: The application is one for WSGI, or a verifier or the replay store
            cannot be awaited.
    """

    def __init__(self, app: App, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError(
                "write TCaptchaMiddleware(app, guard), where guard is a Guard"
            )
        check_asgi(app)
        guard.require("async")
        self.app = app
        self.guard = guard
        self._served = guard.served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._pass(scope, receive, send)
            return
        if scope["path"].endswith(self._served) and await self._serve(scope, send):
            return
        method = scope.get("method", "GET")
        coverage = (
            None if method in self.guard.unmatched_methods else self._coverage(scope, method)
        )
        if coverage is not None and not self.guard.already_allowed(
            coverage, scope.get(SCOPE_KEY)
        ):
            await self._gate(coverage, scope, receive, send)
            return
        if SCOPE_KEY in scope and not isinstance(scope[SCOPE_KEY], Allow):
            # Whoever made it up, no handler shall take it for the gate's word.
            scope[SCOPE_KEY] = None
        await self.app(scope, receive, send)

    def _coverage(self, scope: Scope, method: str) -> CompiledRule | None:
        raw_path, root_path = scope.get("raw_path") or b"", scope.get("root_path") or ""
        return self.guard.match(method, scope["path"], raw_path, root_path)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                await self.guard.aclose()
            await send(message)

        await self.app(scope, receive, closing if scope["type"] == "lifespan" else send)

    async def _serve(self, scope: Scope, send: Send) -> bool:
        answer = self.guard.serve(_request(scope))
        if answer is not None:
            await _send(answer, scope, send)
        return answer is not None

    async def _gate(
        self, coverage: CompiledRule, scope: Scope, receive: Receive, send: Send
    ) -> None:
        request, body = _request(scope), _Body(receive)
        decision = await self._drive(coverage, request, body)
        if isinstance(decision, Allow):
            scope[SCOPE_KEY] = decision
            await self.app(scope, body.replay, send)
        elif not body.disconnected:
            answer = self.guard.answer(coverage, request, decision)
            await _deny(answer, scope, body.replay, send)

    async def _drive(
        self, coverage: CompiledRule, request: RequestInfo, body: _Body
    ) -> Decision:
        walk = self.guard.check(coverage, request)
        try:
            step = next(walk)
            while True:
                try:
                    fetched = await _fetch(step, body)
                except Exception as error:
                    step = walk.throw(error)
                else:
                    step = walk.send(fetched)
        except StopIteration as stop:
            decision: Decision = stop.value
            return decision
        finally:
            # At once when the request is cancelled, so that it gives back what it holds.
            walk.close()


class _Body:
    """A request's body: read in search of the pair, then replayed message by message."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept: deque[Message] = deque()
        self.disconnected = False

    async def read(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether there is more.

        Raises:
            RequestBodyError: The client went away, or something further out broke off.
        """
        try:
            message = await self._receive()
        except Exception as error:
            raise RequestBodyError("the body cannot be received") from error
        if message["type"] != "http.request":
            self._kept.append(message)
            self.disconnected = True
            raise RequestBodyError("the client went away")
        piece, more = message.get("body", b""), message.get("more_body", False)
        # An empty piece says nothing, and a client could send them without end.
        if piece or not more:
            self._kept.append(message)
        return piece, more

    async def replay(self) -> Message:
        """Be the application's `receive`: first what was read, then the rest as it comes."""
        return self._kept.popleft() if self._kept else await self._receive()


def _request(scope: Scope) -> RequestInfo:
    # An iterable, which may be good for one time only (ASGI, "HTTP connection scope").
    if not isinstance(scope["headers"], list):
        scope["headers"] = list(scope["headers"])
    return RequestInfo(
        kind=scope["type"],
        method=scope.get("method", "GET"),
        path=scope["path"],
        query=scope.get("query_string", b""),
        headers=scope["headers"],
        peer=(scope.get("client") or ("",))[0] or "",
        root_path=scope.get("root_path") or "",
    )


def _fetch(step: Effect, body: _Body) -> Awaitable[object]:
    match step:
        case Verify():
            return within(step.timeout, step.verifier.averify(step.ticket))
        case Claim():
            return within(step.timeout, step.replay_store.aclaim(step.key, step.seconds))
        case ReadBody():
            return within(step.timeout, body.read())
        case CallHook():
            return within(step.timeout, _answer(step.question(step.request)))
    return anyio.sleep(step.seconds)


async def _answer(given: object) -> object:
    return await given if inspect.isawaitable(given) else given


async def _deny(
    answer: PlainResponse | App, scope: Scope, receive: Receive, send: Send
) -> None:
    websocket = scope["type"] == "websocket"
    # https://asgi.readthedocs.io/en/stable/extensions.html#websocket-denial-response
    if websocket and "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
    elif isinstance(answer, PlainResponse):
        await _send(answer, scope, send)
    else:
        await answer(scope, receive, send)


async def _send(answer: PlainResponse, scope: Scope, send: Send) -> None:
    kind = "websocket.http" if scope["type"] == "websocket" else "http"
    headers, body = framed(answer, scope.get("method", "GET"))
    await send(
        {
            "type": f"{kind}.response.start",
            "status": answer.status,
            "headers": [(raw_name(name), value.encode("latin-1")) for name, value in headers],
        }
    )
    # The default, said all the same: Quart's test client wants to be told.
    await send({"type": f"{kind}.response.body", "body": body, "more_body": False})
