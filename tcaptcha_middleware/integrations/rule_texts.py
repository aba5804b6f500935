"""The rule texts that match what a route serves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tcaptcha_middleware.integrations.routes.rule_set import written

if TYPE_CHECKING:
    from tcaptcha_middleware.integrations.routes.route import Parameter, PathTemplate, Route
    from tcaptcha_middleware.matching.patterns import Pattern

# An escape, a class, or a character.
_ITEM = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.", re.DOTALL)
_ESCAPES = (r"\d", r"\w", r"\.", r"\-")
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
    if any(map(_may_match_slash, _ITEM.findall(parameter.regex))):
        return False
    return not any(map(parameter.accepts, ("", "/", "value/value")))


def _may_match_slash(item: str) -> bool:
    """Return whether a part of a regular expression may match a slash, if in doubt True."""
    if item.startswith("["):
        return re.fullmatch(item, "/", re.IGNORECASE) is not None
    return item in "./" or (item.startswith("\\") and item not in _ESCAPES)
