"""Read the routes of Litestar applications."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.integrations.marks import mark_in_options
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
    """Yield what an application serves, by path.

    Raises:
        ConfigurationError: If a handler has a mark that no plugin has read, so it would run
            without a captcha.
    """
    # Their order differs from run to run, and does not matter to Litestar.
    for route in sorted(app.routes, key=lambda route: route.path):
        path = PathTemplate.parse(route.path, _VARIABLE, _parameter)
        if route.scope_type == "http":
            for handler in own_handlers(route):
                mark_in_options(handler)
                methods = frozenset(handler.http_methods)
                yield Route(methods, path, handler.fn, definition=handler)
            continue
        (handler,) = own_handlers(route)
        mark_in_options(handler)
        if route.scope_type == "websocket":
            yield Route(None, path, handler.fn, websocket=True, definition=handler)
        elif handler.is_mount:
            yield Mounted(PathTemplate((route.path.rstrip("/"),)), handler.fn)
        else:
            yield Route(None, path, handler.fn, definition=handler)


def own_handlers(route: Any) -> list[Any]:
    """Return the handlers of a route without the one for OPTIONS that Litestar adds to each."""
    handlers = getattr(route, "route_handlers", None) or [route.route_handler]
    return [each for each in handlers if not each.fn.__module__.startswith("litestar.routes")]


def _parameter(match: re.Match[str]) -> Parameter:
    return Parameter(match[1], _REGEXES.get(match[2], SEGMENT))
