"""The gate in front of marked handlers, and the second lock at each of them."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from anyio import to_thread

from tcaptcha_middleware.asgi import TCaptchaMiddleware
from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.errors import CaptchaRequired
from tcaptcha_middleware.integrations.marked_guard import MarkedGuard, unlocked
from tcaptcha_middleware.integrations.marks import mark
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.wsgi import TCaptchaWSGIMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tcaptcha_middleware.asgi import App, Receive, Scope, Send
    from tcaptcha_middleware.integrations.marks import Mark
    from tcaptcha_middleware.models import Allow
    from tcaptcha_middleware.wsgi import App as WSGIApp
    from tcaptcha_middleware.wsgi import StartResponse
    from tcaptcha_middleware.wsgi_body import Environ

# Where scope and environ have the `MarkedGuard`; no client can write there.
_KEY = "tcaptcha.marked"

E = TypeVar("E", bound="Callable[..., Any]")


class MarkedMiddleware(TCaptchaMiddleware):
    """`TCaptchaMiddleware` with the guard that is current when a request begins.

    Args:
        app: The application to protect.
        guard: A `MarkedGuard`.
    """

    guard: Any

    def __init__(self, app: App, guard: Any) -> None:
        super().__init__(app, guard.guard)
        self._gate = TCaptchaMiddleware(app, guard.guard)
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        scope[_KEY] = self.guard
        if self.guard.is_stale:
            # It reads files, too.
            await to_thread.run_sync(self.guard.refresh)
        gate, guard = self._gate, self.guard.guard
        if gate.guard is not guard:
            gate = self._gate = TCaptchaMiddleware(self.app, guard)
        if scope["type"] == "lifespan":
            # Closes the guard that is current at the end.
            await super().__call__(scope, receive, send)
        else:
            await gate(scope, receive, send)


class MarkedWSGIMiddleware(TCaptchaWSGIMiddleware):
    """`TCaptchaWSGIMiddleware` with the guard that is current when a request begins.

    Args:
        app: The application to protect.
        guard: A `MarkedGuard`.
    """

    guard: Any

    def __init__(self, app: WSGIApp, guard: Any) -> None:
        super().__init__(app, guard.guard)
        self._gate = TCaptchaWSGIMiddleware(app, guard.guard)
        self.guard = guard

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        environ[_KEY] = self.guard
        if self.guard.is_stale:
            self.guard.refresh()
        gate, guard = self._gate, self.guard.guard
        if gate.guard is not guard:
            reported = gate.rules_reported
            gate = self._gate = TCaptchaWSGIMiddleware(self.app, guard)
            gate.rules_reported = reported  # those that are not of marks are the same
        return gate(environ, start_response)


def require_marked(holder: Mapping[str, Any], mark: Mark, endpoint: object) -> Allow:
    """Return the decision that lets a request call a marked handler, or raise.

    The second lock: it holds if the gate is not there, saw another path, or judged the request
    by a weaker rule.

    Args:
        holder: The ASGI scope or WSGI environ.
        mark: The handler's mark.
        endpoint: The handler, for the error.

    Raises:
        CaptchaRequired: If no rule judged the request that is as strict as the mark.
    """
    guard, judged = holder.get(_KEY), get_decision(holder)
    if not isinstance(guard, MarkedGuard):
        problem = "the gate is not in front of it: call protect() or init_app()"
    elif (allowed := guard.allowed(holder, mark)) is not None:
        return allowed
    elif judged is None:
        problem = (
            "the gate saw another path or method, the route was added just now, or no rule was "
            "derived for its route"
        )
    else:
        problem = f"the gate judged by {judged.rule!r}, which is not as strict as the mark"
    name = getattr(endpoint, "__qualname__", type(endpoint).__name__)
    error = CaptchaRequired(f"the handler {name} needs a captcha: {problem}")
    place = f"{getattr(endpoint, '__module__', '')}.{name}"
    log.captcha_required(place, judged.rule if judged else None, error)
    raise error


def locked(
    endpoint: E,
    settings: Mapping[str, Any],
    methods: Sequence[str],
    holder_of: Callable[..., Mapping[str, Any]],
) -> E:
    """Return a marked function that calls a handler only if the gate let the request through.

    Args:
        endpoint: The handler, sync or async.
        settings: See `Mark`.
        methods: See `Mark`.
        holder_of: Returns the ASGI scope or WSGI environ from the handler's arguments.
    """

    def unlock(*arguments: Any) -> None:
        holder = holder_of(*arguments)
        method = holder.get("method") or holder.get("REQUEST_METHOD") or "GET"
        if own.pattern.names(method.strip().upper()):
            require_marked(holder, own, endpoint)

    if inspect.iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def call(*arguments: Any, **named: Any) -> Any:
            unlock(*arguments)
            return await endpoint(*arguments, **named)

    else:

        @wraps(endpoint)
        def call(*arguments: Any, **named: Any) -> Any:
            unlock(*arguments)
            return endpoint(*arguments, **named)

    own = mark(call, settings, methods)
    with suppress(TypeError):  # an instance of a class with slots
        unlocked[id(endpoint)] = endpoint
    return cast("E", call)
