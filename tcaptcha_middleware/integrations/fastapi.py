"""FastAPI: `protect` an application, and mark its handlers with `Solved`.

    @app.post("/login")
    async def login(captcha: Solved): ...

    protect(app, TencentVerifier.from_env())

The dependency is not the gate, but the second lock: FastAPI reads forms before dependencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from fastapi.requests import HTTPConnection  # noqa: TC002  FastAPI reads the annotation

from tcaptcha_middleware.integrations.marked_middleware import require_marked
from tcaptcha_middleware.integrations.marks import Mark, attach
from tcaptcha_middleware.integrations.starlette import protect
from tcaptcha_middleware.models import Allow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Unpack

    from tcaptcha_middleware.settings import RuleSettings
    from tcaptcha_middleware.types import Verifier

__all__ = ["Solved", "protect", "solved"]


def solved(
    *, verifier: Verifier | None = None, **settings: Unpack[RuleSettings]
) -> Callable[[HTTPConnection], Awaitable[Allow]]:
    """Return a dependency that marks a handler, a router or an application.

    Args:
        verifier: Verifies the handler's tickets; None for the application's verifier.
        settings: Arguments of `Rule`, for the handlers that depend on it.

    Raises:
        ConfigurationError: If a setting is not valid.
    """

    async def dependency(connection: HTTPConnection) -> Allow:
        return require_marked(connection.scope, own, connection.scope.get("endpoint"))

    own = Mark({"verifier": verifier, **settings})
    attach(own, dependency)
    return dependency


Solved = Annotated[Allow, Depends(solved())]
"""Marks a handler that has a parameter of this type: it is called only with a solved captcha.

The parameter is what the gate decided.
"""
