"""FastAPI: `protect` an application, and mark its handlers with `Solved`.

    @app.post("/login")
    async def login(captcha: Solved): ...

    protect(app, TencentVerifier.from_env())

The dependency is not the gate, but the second lock: FastAPI reads forms before dependencies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from fastapi.requests import HTTPConnection  # noqa: TC002  FastAPI reads the annotation

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.marked_middleware import require_marked
from tcaptcha_middleware.integrations.marks import mark, mark_of
from tcaptcha_middleware.integrations.starlette import add_gate
from tcaptcha_middleware.models import Allow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from typing import Unpack

    from fastapi import FastAPI

    from tcaptcha_middleware.integrations.marked_guard import GuardSettings, MarkedGuard
    from tcaptcha_middleware.integrations.marks import Mark
    from tcaptcha_middleware.integrations.routes.route import Route
    from tcaptcha_middleware.rules import Rule
    from tcaptcha_middleware.settings import RuleSettings
    from tcaptcha_middleware.types import Verifier


def protect(
    app: FastAPI,
    verifier: Verifier,
    rules: Sequence[Rule | str] = (),
    **settings: Unpack[GuardSettings],
) -> MarkedGuard:
    """Put the gate in front of the marked handlers of an application and of its mounts.

    Handlers may be added later.

    Args:
        app: The application.
        verifier: Verifies tickets.
        rules: Rules for unmarked handlers.
        settings: More arguments of `Guard`.

    Raises:
        ConfigurationError: If a setting is not valid, or the application has such a gate.
    """
    return add_gate(app, {"verifier": verifier, "rules": rules, **settings}, _mark_of)


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

    own = mark(dependency, {"verifier": verifier, **settings})
    return dependency


Solved = Annotated[Allow, Depends(solved())]
"""Marks a handler that has a parameter of this type: it is called only with a solved captcha.

The parameter is what the gate decided.
"""


def _mark_of(route: Route) -> Mark | None:
    tree = getattr(route.definition, "dependant", None)  # codespell:ignore dependant
    handlers = [route.endpoint] if tree is None else _calls(tree)
    marks = [own for own in map(mark_of, handlers) if own is not None]
    if any(own.rule != marks[0].rule for own in marks):
        raise ConfigurationError(
            f"{route.endpoint!r} has marks with different settings: leave one, also of those "
            "that its router and its dependencies have"
        )
    return marks[0] if marks else None


def _calls(tree: Any) -> Iterator[object]:
    """Yield a handler and all that it depends on, also through other dependencies."""
    yield tree.call
    for inner in tree.dependencies:
        yield from _calls(inner)
