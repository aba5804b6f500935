"""The gate in front of marked handlers, and the second lock at each of them."""

from __future__ import annotations

import inspect
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, overload

from anyio import to_thread

from tcaptcha_middleware.asgi import TCaptchaMiddleware
from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.errors import CaptchaRequired
from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
from tcaptcha_middleware.integrations.marks import Mark, attach, unlocked, wrapped
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.wsgi import TCaptchaWSGIMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from tcaptcha_middleware.asgi import App, Receive, Scope, Send
    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.models import Allow
    from tcaptcha_middleware.settings import RuleSettings
    from tcaptcha_middleware.types import Verifier
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
        self._gate = self._gate_of(guard.guard)
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        scope[_KEY] = self.guard
        if self.guard.is_stale:
            # It reads files, too.
            await to_thread.run_sync(self.guard.refresh)
        gate, guard = self._gate, self.guard.guard
        if gate.guard is not guard:
            gate = self._gate = self._gate_of(guard)
        if scope["type"] == "lifespan":
            # Closes the guard that is current at the end.
            await super().__call__(scope, receive, send)
            return
        if not self.rules_reported:
            self._report(scope.get("root_path") or "")
        await gate(scope, receive, send)

    def _gate_of(self, guard: Guard) -> TCaptchaMiddleware:
        gate = TCaptchaMiddleware(self.app, guard)
        gate.rules_reported = True  # once for all guards, because only rules of marks differ
        return gate


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
        problem = (
            "the gate is not in front of it: call protect() or init_app(); give an application "
            "of Litestar TCaptchaPlugin(verifier=…), and a route on construction"
        )
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


class Required:
    """Marks handlers: they are called only with a solved captcha.

    Args:
        holder_of: Returns the ASGI scope or WSGI environ from a handler's arguments.
    """

    def __init__(self, holder_of: Callable[..., Mapping[str, Any]]) -> None:
        self._holder_of = holder_of

    @overload
    def __call__(self, handler: E) -> E: ...

    @overload
    def __call__(
        self,
        *,
        methods: Sequence[str] = (),
        verifier: Verifier | None = None,
        **settings: Unpack[RuleSettings],
    ) -> Callable[[E], E]: ...

    def __call__(
        self, handler: Any = None, *, methods: Sequence[str] = (), **settings: Any
    ) -> Any:
        """Mark a handler.

        Write it below the decorator for the route, so it gets the handler first.

        Args:
            handler: A function, sync or async, or a class with `dispatch`.
            methods: The methods that need a ticket, such as `["POST"]`; by default every one
                that the handler answers.
            verifier: Verifies the handler's tickets; None for the application's verifier.
            settings: Arguments of `Rule`, for this handler.

        Raises:
            ConfigurationError: If a setting is not valid, or the handler has a mark.
        """
        if handler is None:
            return partial(self._mark, Mark(settings, methods))
        return self._mark(Mark(settings, methods), handler)

    def _mark(self, own: Mark, handler: Any) -> Any:
        if not isinstance(handler, type):
            return self._locked(own, handler)
        kind: Any = handler
        kind.dispatch = self._locked(own, kind.dispatch)
        return kind

    def _locked(self, own: Mark, handler: Any) -> Any:
        """Return a marked function that calls a handler only if the gate let it through."""

        def unlock(*arguments: Any, **_: Any) -> None:
            holder = self._holder_of(*arguments)
            if own.concerns(holder):
                require_marked(holder, own, handler)

        call = wrapped(handler, unlock, is_async=inspect.iscoroutinefunction(handler))
        attach(own, call)
        with suppress(TypeError):  # an instance of a class with slots
            unlocked[id(handler)] = handler
        return call
