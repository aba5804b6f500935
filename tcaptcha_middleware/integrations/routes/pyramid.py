"""Read the routes of a Pyramid application; what traversal serves stays opaque."""

from __future__ import annotations

import inspect
import re
import sys
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.integrations.routes.route import (
    ANYTHING,
    SEGMENT,
    Parameter,
    PathTemplate,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# "{name}" or "{name:regex}"; ":name" as in old patterns; "*rest" at the end.
_VARIABLE = re.compile(r"\{(\w+)(?::((?:[^{}]|\{[^{}]*\})*))?\}|(?<=/):([^\W\d]\w*)|\*(\w*)\Z")
_TRAVERSAL = PathTemplate(("/", Parameter("traverse", ANYTHING)))
_TRAVERSED = "views are found by traversal, so their paths depend on the resources"


def read(app: Any) -> Iterator[Route]:
    """Yield the routes in their order, and one for all views that need no route."""
    interfaces = sys.modules["pyramid.interfaces"]
    mapper = app.registry.queryUtility(interfaces.IRoutesMapper)
    introspector = app.registry.introspector
    for route in mapper.get_routes() if mapper else ():
        path = _template(route.pattern)
        entry = introspector.get("routes", route.name)
        related = () if entry is None else introspector.related(entry)
        views = [view for view in related if view.category_name == "views"]
        for view in views:
            methods = _both(entry["request_methods"], view["request_methods"])
            opaque = _why_opaque(route.pattern, view["callable"])
            yield Route(methods, path, view["callable"], opaque=opaque)
        if not views:
            yield Route(None, path, None, opaque="no view is registered for this route")
    entries = introspector.get_category("views") or ()
    for view in (entry["introspectable"] for entry in entries):
        if view["route_name"] is None and not _is_for_exceptions(view["context"]):
            yield Route(None, _TRAVERSAL, view["callable"], opaque=_TRAVERSED)
            break


def _template(pattern: str) -> PathTemplate:
    def parameter(match: re.Match[str]) -> Parameter:
        if match[4] is not None:
            return Parameter(match[4], ANYTHING)
        return Parameter(match[1] or match[3], match[2] or SEGMENT)

    return PathTemplate.parse("/" + pattern.lstrip("/"), _VARIABLE, parameter)


def _both(of_route: Any, of_view: Any) -> frozenset[str] | None:
    """Return the methods that both predicates allow; None for every method."""
    listed = [methods for methods in map(_listed, (of_route, of_view)) if methods is not None]
    return frozenset.intersection(*listed) if listed else None


def _listed(predicate: Any) -> frozenset[str] | None:
    if isinstance(predicate, str):
        return frozenset({predicate})
    # Of `not_("GET")`, only that some methods are allowed is certain.
    return frozenset(predicate) if isinstance(predicate, (tuple, list, set)) else None


def _why_opaque(pattern: str, view: Any) -> str:
    if pattern.endswith("*traverse"):
        return _TRAVERSED
    # The decorators `wsgiapp` and `wsgiapp2` keep the application in a closure.
    if getattr(view, "__globals__", {}).get("__name__") == "pyramid.wsgi":
        return "a WSGI application is called here"
    return ""


def _is_for_exceptions(context: Any) -> bool:
    is_interface = context is sys.modules["pyramid.interfaces"].IExceptionResponse
    return is_interface or (inspect.isclass(context) and issubclass(context, Exception))
