"""The ASGI adapter: performs what the decision flow asks for, and acts on its decision.

The guard finds the rule and the flow judges the ticket; here is what the protocol demands.
`wsgi.py` is its twin, with the same steps under the same names.
https://asgi.readthedocs.io/en/stable/specs/www.html
"""

from __future__ import annotations

import inspect
import os
import sys
import types
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tcaptcha_middleware.effects import CallHook, Claim, ReadBody, Release, Verify
from tcaptcha_middleware.errors import ConfigurationError, RequestBodyError
from tcaptcha_middleware.flow import decide
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.matching.paths import mount_of
from tcaptcha_middleware.models import Allow, RequestInfo, raw_name
from tcaptcha_middleware.operations.startup import report_dead_rules
from tcaptcha_middleware.responses import PlainResponse, framed
from tcaptcha_middleware.validation import validate_asgi
from tcaptcha_middleware.waiting import asyncio_loop

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from tcaptcha_middleware.effects import Effect, Flow
    from tcaptcha_middleware.models import Refuse
    from tcaptcha_middleware.rules import MatchedRule

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Frameworks type their scopes in different ways.
App = Callable[[Any, Any, Any], Awaitable[None]]

SCOPE_KEY = "tcaptcha"

T = TypeVar("T")
B = TypeVar("B")

# RFC 6455, section 7.4.1: "an endpoint is terminating because of a policy".
_POLICY_VIOLATION = 1008
# https://asgi.readthedocs.io/en/stable/extensions.html#websocket-denial-response
_DENIAL = "websocket.http.response"
_HEADER_TYPES = frozenset((tuple, list))


class TCaptchaMiddleware:
    """Let only requests with a solved captcha through to an ASGI application.

    Protects HTTP requests and websocket handshakes according to the guard's rules; every
    other scope passes untouched. When the server shuts down, the guard is closed, except on
    AWS Lambda.

    Args:
        app: The application to protect.
        guard: What to protect, and how.

    Raises:
        ConfigurationError: If the application is a WSGI application, or a verifier or the
            replay store cannot be awaited.
    """

    def __init__(self, app: App, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError(
                "write TCaptchaMiddleware(app, guard), where guard is a Guard"
            )
        validate_asgi(app)
        guard.require("async")
        self.app = app
        self.guard = guard
        self._mount = mount_of(app, guard.mounted_at)
        self._preflight_headers = _raw_headers(guard.preflight_headers)
        self._closes = closes_on_shutdown()
        self.rules_reported: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._pass(scope, receive, send)
            return
        if not self.rules_reported:
            # Django, a mounted application and some servers know no lifespan.
            self._report(scope.get("root_path") or "")
        guard, method, path = self.guard, scope.get("method", "GET"), scope["path"]
        if method == "OPTIONS" and self._preflight_headers:
            send = _adding(self._preflight_headers, send)
        # What `route` would return for most requests, without a call.
        if (
            method in guard.unmatched_methods
            and SCOPE_KEY not in scope
            and not path.endswith(guard.page_paths)
        ):
            await self.app(scope, receive, send)
            return
        raw_path, root_path = scope.get("raw_path") or b"", scope.get("root_path") or ""
        target = method, path, raw_path, root_path, self._mount
        route = guard.route(target, scope, SCOPE_KEY)
        if route is None:
            await self.app(scope, receive, send)
            return
        request, body = _request(scope, self._mount), _Body(receive)
        if callable(route):
            await _send(await run(route(request), body, perform), scope, send)
            return
        decision = await run(decide(route, request), body, perform)
        if isinstance(decision, Allow):
            guard.record(decision, route, target, scope, SCOPE_KEY)
            await self.app(scope, body.replay if body.kept else receive, send)
        elif not body.disconnected:
            await self._refuse(decision, route, request, body, send)

    async def _refuse(
        self,
        refuse: Refuse,
        rule: MatchedRule,
        request: RequestInfo,
        body: _Body,
        send: Send,
    ) -> None:
        scope: Scope = request.raw
        if scope["type"] == "websocket" and _DENIAL not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
            return
        answer, added = self.guard.answer(rule, request, refuse)
        send = _adding(_raw_headers(added), send)
        if isinstance(answer, PlainResponse):
            await _send(answer, scope, send)
        else:
            await answer(scope, body.replay, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watching(message: Message) -> None:
            if self._closes and message["type"].startswith("lifespan.shutdown."):
                await self.guard.aclose()
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                # Now it has the routes that its own start-up adds, too.
                self._report("")

        await self.app(scope, receive, watching if scope["type"] == "lifespan" else send)

    def _report(self, root: str) -> None:
        self.rules_reported = True
        report_dead_rules(self.app, self.guard, root)


def _request(scope: Scope, mount: str) -> RequestInfo:
    # The headers, each of them, and the client may be iterables that can be read only once.
    headers, client = scope["headers"], scope.get("client")
    if type(headers) is not list or not _HEADER_TYPES.issuperset(map(type, headers)):
        headers = scope["headers"] = [tuple(pair) for pair in headers]
    if client is not None and not isinstance(client, (tuple, list)):
        client = scope["client"] = tuple(client)
    return RequestInfo(
        scope["type"],
        scope.get("method", "GET"),
        scope["path"],
        scope.get("query_string", b""),
        headers,
        (client[0] or "") if client else "",
        mount or scope.get("root_path") or "",
        scope,
    )


async def run(
    flow: Flow[T], body: B, perform_one: Callable[[Effect, B], Awaitable[object]]
) -> T:
    """Run a flow: perform each of its effects, and send it the result.

    Args:
        flow: The flow.
        body: What its `ReadBody` reads.
        perform_one: Performs an effect: `perform`, or what a framework needs instead.
    """
    try:
        effect = next(flow)
        while True:
            try:
                result = await perform_one(effect, body)
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        # At once if the request is cancelled, so its verification slot is free again.
        flow.close()


def perform(effect: Effect, body: _Body) -> Awaitable[object]:
    """Perform one effect; awaited, it returns the effect's result."""
    match effect:
        case Verify():
            return within(effect.timeout, effect.verifier.averify(effect.submission))
        case ReadBody():
            return within(effect.timeout, body.read())
        case Claim():
            claim = effect.store.aclaim(effect.key, effect.token, effect.seconds)
            return within(effect.timeout, claim)
        case CallHook():
            return _call(effect)
        case Release():
            release = effect.store.arelease(effect.key, effect.token)
            return within(effect.timeout, release)
    # What is left is `WaitForSlot`.
    return effect.slots.wait_async(effect.timeout)


async def _call(effect: CallHook) -> object:
    result = effect.hook(effect.request)
    return await within(effect.timeout, result) if inspect.isawaitable(result) else result


def _raw_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(raw_name(name), value.encode("latin-1")) for name, value in headers]


def _adding(headers: Sequence[tuple[bytes, bytes]], send: Send) -> Send:
    async def adding(message: Message) -> None:
        if message["type"].endswith("response.start"):
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return adding


async def _send(answer: PlainResponse, scope: Scope, send: Send) -> None:
    kind = "websocket.http" if scope["type"] == "websocket" else "http"
    headers, body = framed(answer, scope.get("method", "GET"))
    await send(
        {
            "type": f"{kind}.response.start",
            "status": answer.status,
            "headers": _raw_headers(headers),
        }
    )
    # False is the default; Quart's test client needs it spelled out.
    await send({"type": f"{kind}.response.body", "body": body, "more_body": False})


@dataclass(slots=True, eq=False)
class _Body:
    """A request's body: read in search of the pair, then replayed message by message."""

    receive: Receive
    # Made when it is needed: an empty deque has space for 64 messages.
    kept: deque[Message] | None = None
    disconnected: bool = False

    async def read(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether there is more.

        Raises:
            RequestBodyError: If the client disconnected, or an outer middleware failed.
        """
        if self.kept is None:
            self.kept = deque()
        try:
            message = await self.receive()
        except Exception as error:
            raise RequestBodyError("the body cannot be received") from error
        if message["type"] != "http.request":
            self.kept.append(message)
            self.disconnected = True
            raise RequestBodyError("the client disconnected")
        piece, more = message.get("body", b""), message.get("more_body", False)
        # An empty piece says nothing, and a client could send them without end.
        if piece or not more:
            self.kept.append(message)
        return piece, more

    async def replay(self) -> Message:
        """Act as the application's `receive`: first what was read, then what follows."""
        return self.kept.popleft() if self.kept else await self.receive()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Await `work` with a timeout that costs next to nothing if there is no wait.

    Most waits are over before they begin: a body that has arrived, a ticket claimed in memory.

    Args:
        seconds: The timeout, from the first wait.
        work: What is awaited; it is cancelled when it times out.

    Raises:
        TimeoutError: If it times out.
    """
    # What does not run trio has no use for a closer look.
    if "trio" in sys.modules and asyncio_loop() is None:
        import anyio

        with anyio.fail_after(seconds):
            return await work
    steps = work.__await__()
    try:
        waits_for = next(steps)
    except StopIteration as done:
        answer: T = done.value
        return answer
    import asyncio  # late, because it takes a fifth of start-up

    # Not anyio's: `work` may have a cancel scope open by now, and scopes have to nest.
    async with asyncio.timeout(seconds):
        return await _rest(steps, waits_for)


@types.coroutine
def _rest(steps: Generator[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Continue an awaitable after its first step, as `yield from` would (PEP 380)."""
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:  # cancellation too has to reach what waits
                waits_for = steps.throw(error)
            else:
                waits_for = steps.send(sent)
    except StopIteration as done:
        answer: T = done.value
        return answer


def closes_on_shutdown() -> bool:
    """Return whether a guard is closed when its application is shut down."""
    # Mangum, the adapter for AWS Lambda, shuts the application down after each invocation; the
    # next one finds the connections open. A function is frozen, and never shut down.
    return "AWS_LAMBDA_FUNCTION_NAME" not in os.environ
