"""Starlette: `protect` an application, and mark its endpoints with `required`.

    @required
    async def login(request): ...

    app = Starlette(routes=[Route("/login", login, methods=["POST"])])
    protect(app, TencentVerifier.from_env())

The decorator is not the gate, but the second lock.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
from tcaptcha_middleware.integrations.marked_middleware import MarkedMiddleware, Required
from tcaptcha_middleware.integrations.openapi import install

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Unpack

    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection

    from tcaptcha_middleware.guard import GuardSettings
    from tcaptcha_middleware.rules import Rule
    from tcaptcha_middleware.types import Verifier


def protect(
    app: Starlette,
    verifier: Verifier,
    rules: Sequence[Rule | str] = (),
    **settings: Unpack[GuardSettings],
) -> MarkedGuard:
    """Put the gate in front of the marked endpoints of an application and of its mounts.

    Endpoints may be added later. The OpenAPI document of FastAPI describes the captcha.

    Args:
        app: The application, of Starlette or FastAPI.
        verifier: Verifies tickets.
        rules: Rules for unmarked handlers.
        settings: More arguments of `Guard`.

    Raises:
        ConfigurationError: If a setting is not valid, or the application has such a gate.
    """
    added: list[object] = [middleware.cls for middleware in app.user_middleware]
    if MarkedMiddleware in added:
        kind = type(app).__name__
        raise ConfigurationError(f"protect was called twice for this {kind}: call it once")
    arguments = {"verifier": verifier, "rules": rules, **settings}
    guard = MarkedGuard(app, arguments, app.routes)
    guard.guard.require("async")
    app.add_middleware(MarkedMiddleware, guard=guard)
    fastapi = sys.modules.get("fastapi")
    if fastapi is not None and isinstance(app, fastapi.FastAPI):
        install(app, guard)
    return guard


def _scope(connection: HTTPConnection) -> Mapping[str, Any]:
    # The instance of a class has a scope, too.
    scope: Mapping[str, Any] = connection.scope
    return scope


required: Required = Required(_scope)
"""Marks an endpoint: a function of a request or websocket, or a class with `dispatch`."""
