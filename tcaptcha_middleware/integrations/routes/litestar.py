"""Read the routes of Litestar applications."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.integrations.routes.route import (
    SEGMENT,
    Mounted,
    Parameter,
    PathTemplate,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# In `path`; `path_format` lacks the converters.
_VARIABLE = re.compile(r"\{\s*(\w+)\s*:\s*(\w+)\s*\}")
# A segment that a converter rejects is answered 404, so only these two matter.
_REGEXES = {"int": "-?[0-9]+", "path": ".+"}


def read(app: Any) -> Iterator[Route | Mounted]:
    """Yield what an application serves, in its order."""
    for route in app.routes:
        path = PathTemplate.parse(route.path, _VARIABLE, _parameter)
        if route.scope_type == "http":
            for handler in route.route_handlers:
                # Litestar adds a handler for OPTIONS to each route.
                if not handler.fn.__module__.startswith("litestar.routes"):
                    yield Route(frozenset(handler.http_methods), path, handler.fn)
        elif route.scope_type == "websocket":
            yield Route(None, path, route.route_handler.fn, websocket=True)
        elif route.route_handler.is_mount:
            yield Mounted(PathTemplate((route.path.rstrip("/"),)), route.route_handler.fn)
        else:
            yield Route(None, path, route.route_handler.fn)


def _parameter(match: re.Match[str]) -> Parameter:
    return Parameter(match[1], _REGEXES.get(match[2], SEGMENT))
