"""The rule texts that match what a route serves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tcaptcha_middleware.integrations.routes.rule_set import written

if TYPE_CHECKING:
    from tcaptcha_middleware.integrations.routes.route import Parameter, PathTemplate, Route
    from tcaptcha_middleware.matching.patterns import Pattern

# What matches no slash: `[^/]`, and all but dots, escapes and other negated classes.
_WITHOUT_SLASH = re.compile(r"(?:\[\^/\]|\\[dw.-]|\[(?!\^)|[^\[\\./])*")
_VARIABLE = re.compile(r"\{\w+\}")


def rule_texts(route: Route, wanted: Pattern) -> list[str]:
    """Return the texts of the rules that match the requests for a route.

    They may match more, never less: a variable in a segment becomes any segment, and one for
    several segments becomes everything below the segments before it.

    Args:
        route: What the application serves.
        wanted: Has the methods that count; the list is empty if the route answers none.
    """
    path = _path(route.path)
    if route.websocket:
        return [f"GET {path}"] if wanted.names("GET") else []
    if route.methods is not None:
        methods = written(filter(wanted.names, route.methods))
        return [f"{','.join(methods)} {path}"] if methods else []
    if wanted.methods:
        return [f"{','.join(written(wanted.methods))} {path}"]
    # Preflights pass such a rule, for a CORS middleware; the second lock keeps them out.
    return [f"UNSAFE {path}" if wanted.unsafe else path]


def _path(template: PathTemplate) -> str:
    """Return the path of a rule that matches at least what the template does."""
    text = ""
    for part in template.parts:
        if isinstance(part, str):
            text += part
        elif _is_in_segment(part):
            text += f"{{{part.name or 'any'}}}"
        else:
            text = f"{text.rpartition('/')[0]}/**"
            break
    segments = text.split("/")
    variable = (s if "{" not in s or _VARIABLE.fullmatch(s) else "{any}" for s in segments)
    return "/".join(variable) or "/"


def _is_in_segment(parameter: Parameter) -> bool:
    """Return whether a parameter's values are never empty, and never contain a slash."""
    regex = _WITHOUT_SLASH.fullmatch(parameter.regex)
    return regex is not None and not any(map(parameter.accepts, ("", "/", "value/value")))
