"""Read the routes of Falcon applications, WSGI and ASGI; its sinks stay opaque."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.integrations.routes.regex import split
from tcaptcha_middleware.integrations.routes.route import (
    ANYTHING,
    SEGMENT,
    Parameter,
    PathTemplate,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# The arguments of a converter may be strings with a brace.
_VARIABLE = re.compile(r"\{(\w+)(?::(\w+)(?:\(.*?\))?)?\}")
_WEBSOCKET = "WEBSOCKET"
_SINK = "a sink answers every path that begins so"


def read(app: Any) -> Iterator[Route]:
    """Yield routes, sinks and static files."""
    inspect = import_module("falcon.inspect")
    converters = app.router_options.converters

    def parameter(match: re.Match[str]) -> Parameter:
        several = match[2] and converters[match[2]].CONSUME_MULTIPLE_SEGMENTS
        digits = match[2] == "int"
        return Parameter(match[1], ".+" if several else "[0-9]+" if digits else SEGMENT)

    for route in inspect.inspect_routes(app):
        path = PathTemplate.parse(route.path, _VARIABLE, parameter)
        # What is inspected has the resource's name only; a converter may reject the example.
        found = app._router.find(path.examples[0])  # noqa: SLF001
        resource = found[0] if found else route.class_name
        # Falcon adds responders for OPTIONS and for the methods that a resource lacks.
        methods = {method.method for method in route.methods if not method.internal}
        if methods - {_WEBSOCKET}:
            yield Route(frozenset(methods - {_WEBSOCKET}), path, resource)
        if _WEBSOCKET in methods:
            yield Route(None, path, resource, websocket=True)
    for sink in inspect.inspect_sinks(app):
        for path in split(sink.prefix, start=True):
            yield Route(None, path, sink.name, opaque=_SINK)
    for static in inspect.inspect_static_routes(app):
        path = PathTemplate((static.prefix, Parameter("path", ANYTHING)))
        yield Route(frozenset({"GET"}), path, static.directory)
