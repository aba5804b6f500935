"""Starlette: `protect` an application, and mark its endpoints with `required`.

    @required
    async def login(request): ...

    app = Starlette(routes=[Route("/login", login, methods=["POST"])])
    protect(app, TencentVerifier.from_env())

The decorator is not the gate, but the second lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
from tcaptcha_middleware.integrations.marked_middleware import MarkedMiddleware, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection

    from tcaptcha_middleware.integrations.marked_guard import GuardSettings
    from tcaptcha_middleware.rules import Rule
    from tcaptcha_middleware.settings import RuleSettings
    from tcaptcha_middleware.types import Verifier

E = TypeVar("E", bound="Callable[..., Any]")


def protect(
    app: Starlette,
    verifier: Verifier,
    rules: Sequence[Rule | str] = (),
    **settings: Unpack[GuardSettings],
) -> MarkedGuard:
    """Put the gate in front of the marked endpoints of an application and of its mounts.

    Endpoints may be added later.

    Args:
        app: The application.
        verifier: Verifies tickets.
        rules: Rules for unmarked handlers.
        settings: More arguments of `Guard`.

    Raises:
        ConfigurationError: If a setting is not valid, or the application has such a gate.
    """
    added: list[object] = [middleware.cls for middleware in app.user_middleware]
    if MarkedMiddleware in added:
        raise ConfigurationError(f"protect was called twice for {app!r}: call it once")
    arguments = {"verifier": verifier, "rules": rules, **settings}
    guard = MarkedGuard(app, arguments, app.routes)
    guard.guard.require("async")
    app.add_middleware(MarkedMiddleware, guard=guard)
    return guard


@overload
def required(endpoint: E) -> E: ...


@overload
def required(
    *,
    methods: Sequence[str] = (),
    verifier: Verifier | None = None,
    **settings: Unpack[RuleSettings],
) -> Callable[[E], E]: ...


def required(endpoint: Any = None, *, methods: Sequence[str] = (), **settings: Any) -> Any:
    """Mark an endpoint: it is called only with a solved captcha.

    Args:
        endpoint: A function of a request or websocket, or a class with `dispatch`.
        methods: The methods that need a ticket, such as `["POST"]`; by default every one.
        verifier: Verifies the endpoint's tickets; None for the application's verifier.
        settings: Arguments of `Rule`, for this endpoint.

    Raises:
        ConfigurationError: If a setting is not valid, or the endpoint has a mark.
    """

    def decorate(endpoint: Any) -> Any:
        if not isinstance(endpoint, type):
            return locked(endpoint, settings, methods, _scope)
        kind: Any = endpoint
        kind.dispatch = locked(kind.dispatch, settings, methods, _scope)
        return kind

    return decorate if endpoint is None else decorate(endpoint)


def _scope(connection: HTTPConnection) -> Mapping[str, Any]:
    # The instance of a class has a scope, too.
    scope: Mapping[str, Any] = connection.scope
    return scope
