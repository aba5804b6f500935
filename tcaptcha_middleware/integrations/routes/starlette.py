"""Read the routes of Starlette applications and routers, and of FastAPI's."""

from __future__ import annotations

import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from starlette.endpoints import HTTPEndpoint
from starlette.routing import Host, Mount, WebSocketRoute
from starlette.routing import Route as StarletteRoute
from starlette.staticfiles import StaticFiles

from tcaptcha_middleware.integrations.routes.route import (
    ANYTHING,
    Mounted,
    Parameter,
    PathTemplate,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = re.compile(r"\{(\w+)\}")
_REST = PathTemplate(("/", Parameter("path", ANYTHING)))


def read(app: Any) -> Iterator[Route | Mounted]:
    """Yield what an application or router serves, in its order."""
    fastapi = sys.modules.get("fastapi.routing")
    # FastAPI 0.137 began to keep included routers as such, and to resolve them on request.
    contexts = getattr(fastapi, "iter_route_contexts", iter)
    for route in contexts(app.routes):
        # A context has the attributes of the route as it is included.
        kind = getattr(route, "original_route", route)
        if isinstance(kind, Host):
            yield Mounted(PathTemplate(), route.app)
        elif isinstance(kind, Mount):
            path = _template(route, route.path_format.removesuffix("/{path}"))
            if isinstance(route.app, StaticFiles):
                yield Route(frozenset({"GET"}), path + _REST, route.app)
            else:
                yield Mounted(path, route.app)
        elif isinstance(kind, WebSocketRoute):
            path = _template(route, route.path_format)
            yield Route(None, path, route.endpoint, websocket=True, definition=route)
        elif isinstance(kind, StarletteRoute):
            path = _template(route, route.path_format)
            yield Route(_methods(route), path, route.endpoint, definition=route)
        else:
            unknown = f"{type(kind).__name__} is not a route of Starlette"
            yield Route(None, _REST, kind, opaque=unknown)
    router = getattr(app, "router", app)
    if router.default != router.not_found:
        yield Route(None, _REST, router.default, opaque="the router's default is called here")


def _template(route: Any, path_format: str) -> PathTemplate:
    def parameter(match: re.Match[str]) -> Parameter:
        return Parameter(match[1], route.param_convertors[match[1]].regex)

    return PathTemplate.parse(path_format, _VARIABLE, parameter)


def _methods(route: Any) -> frozenset[str] | None:
    if route.methods is not None:
        return frozenset(route.methods)
    endpoint = route.endpoint
    if inspect.isclass(endpoint) and issubclass(endpoint, HTTPEndpoint):
        names = ("get", "head", "post", "put", "patch", "delete", "options")
        return frozenset(name.upper() for name in names if hasattr(endpoint, name))
    return None
