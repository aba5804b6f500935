"""Read the routes of a Django project."""

from __future__ import annotations

import re
import sys
from inspect import isfunction
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.integrations.routes.regex import split
from tcaptcha_middleware.integrations.routes.route import (
    SEGMENT,
    Parameter,
    PathTemplate,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = re.compile(r"<(?:[^>:]+:)?([^>]+)>")
_LANGUAGE = PathTemplate((Parameter("language", SEGMENT), "/"))


def read(_: Any) -> Iterator[Route]:
    """Yield what the project's `ROOT_URLCONF` serves, in its order."""
    resolver = sys.modules["django.urls"].get_resolver()
    yield from _routes(resolver.url_patterns, PathTemplate(("/",)))


def _routes(patterns: Any, prefix: PathTemplate, *, in_admin: bool = False) -> Iterator[Route]:
    in_admin = in_admin or any(map(_is_method_of_admin, patterns))
    for item in patterns:
        inner = getattr(item, "url_patterns", None)
        for path in _templates(item.pattern, is_endpoint=inner is None):
            if inner is None:
                needs_login = in_admin and not _is_method_of_admin(item)
                methods = _methods(item.callback)
                yield Route(methods, prefix + path, item.callback, needs_login=needs_login)
            else:
                yield from _routes(inner, prefix + path, in_admin=in_admin)


def _is_method_of_admin(item: Any) -> bool:
    """Return whether a URL is the login of an admin site; all others are wrapped functions."""
    sites = sys.modules.get("django.contrib.admin.sites")
    owner = getattr(getattr(item, "callback", None), "__self__", None)
    return sites is not None and isinstance(owner, sites.AdminSite)


def _templates(pattern: Any, *, is_endpoint: bool) -> list[PathTemplate]:
    resolvers = sys.modules["django.urls.resolvers"]
    if isinstance(pattern, resolvers.LocalePrefixPattern):
        default = [] if pattern.prefix_default_language else [PathTemplate()]
        return [_LANGUAGE, *default]
    if isinstance(pattern, resolvers.RegexPattern):
        return split(str(pattern), end=not is_endpoint)

    def parameter(match: re.Match[str]) -> Parameter:
        return Parameter(match[1], pattern.converters[match[1]].regex)

    return [PathTemplate.parse(str(pattern), _VARIABLE, parameter)]


def _methods(view: Any) -> frozenset[str] | None:
    """Return the methods that a view answers; None if a function answers every one."""
    allowed = [_of_class(view)]
    while isfunction(view):
        # Of `require_http_methods`, which keeps them nowhere else.
        cells = zip(view.__code__.co_freevars, view.__closure__ or (), strict=True)
        listing = [cell for name, cell in cells if name == "request_method_list"]
        allowed += [cell.cell_contents for cell in listing]
        view = getattr(view, "__wrapped__", None)
    listed = [frozenset(methods) for methods in allowed if methods is not None]
    return frozenset.intersection(*listed) if listed else None


def _of_class(view: Any) -> list[str] | None:
    # The second is that of Django REST framework, whose viewsets have a map of methods, too.
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if kind is None:
        return None
    handlers = {name: getattr(kind, name, None) for name in kind.http_method_names}
    called = getattr(view, "actions", None) or handlers
    names = [name for name in handlers if called.get(name)]
    # The answer to OPTIONS that both frameworks have does not call a handler.
    return [
        name.upper()
        for name in names
        if name != "options" or not _is_frameworks(handlers[name])
    ]


def _is_frameworks(function: Any) -> bool:
    return function.__module__.partition(".")[0] in ("django", "rest_framework")
