"""The URLs of a project's marked views, and their rules."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.marks import Mark, mark_of
from tcaptcha_middleware.integrations.rule_texts import rule_texts
from tcaptcha_middleware.matching.patterns import SAFE_METHODS, parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tcaptcha_middleware.integrations.routes.route import Route
    from tcaptcha_middleware.rules import Rule

# The mark of a view that may not check the permissions it lists; the gate refuses for it.
_ENFORCED = Mark(methods=["UNSAFE"])


class _Project(WSGIHandler):  # type: ignore[misc]
    def __init__(self) -> None:
        """Load no middleware: ours needs the rules first."""


PROJECT: Any = _Project()
"""An application for `read` and `Guard.covers`; Django has the URLs in its settings."""


def marked_views(routes: Iterable[Route]) -> Iterator[tuple[Route, Rule]]:
    """Yield each URL of a view with a mark, and its rule.

    Args:
        routes: Those of `PROJECT`.

    Raises:
        ConfigurationError: If no rule can express such a URL, or a `get` handler is marked.
    """
    for route in routes:
        for method, mark in marks_of(route.endpoint):
            # Only for its path. The rule also has the methods to which a view answers 405,
            # because the lock comes first.
            (text,) = rule_texts(route._replace(methods=frozenset({"GET"})), parse("/"))
            text = text.replace("GET", method, 1)
            try:
                parse(text)
                if method in SAFE_METHODS:
                    raise ConfigurationError(
                        f'{method} stays open: add "{text}" to RULES instead'
                    )
            except ConfigurationError as error:
                raise ConfigurationError(f"{route.endpoint!r} is marked: {error}") from error
            yield route, mark.rule_for(text)


def marks_of(view: object) -> Iterator[tuple[str, Mark]]:
    """Yield the mark of a view for every unsafe method, or those of its handlers."""
    # A class-based view; one of Django REST framework; the actions of its viewsets.
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    permissions: Any = getattr(view, "initkwargs", {}).get("permission_classes")
    if permissions is None:
        permissions = getattr(kind, "permission_classes", ())
    if isinstance(permissions, (property, type)):
        permissions = ()  # its value depends on the request, or it is not a list
    asked = next(filter(None, map(_mark_of_permission, permissions)), None)
    if asked is not None and not _checks_listed_permissions(kind):
        asked = _ENFORCED
    own = mark_of(view) or asked
    if own is not None:
        yield "UNSAFE", own
        return
    names = {name: name for name in getattr(kind, "http_method_names", ())}
    for method, name in (getattr(view, "actions", None) or names).items():
        mark = mark_of(getattr(kind, name, None))
        if mark is not None:
            yield method.upper(), mark


def _checks_listed_permissions(kind: object) -> bool:
    """Return whether a class of Django REST framework checks all permissions it lists."""
    framework = import_module("rest_framework.views").APIView
    return all(
        getattr(kind, name, None) is getattr(framework, name)
        for name in ("get_permissions", "check_permissions")
    )


def _mark_of_permission(permission: object) -> Mark | None:
    """Return the mark of a permission of Django REST framework, or of a part of `A & B`."""
    parts = [getattr(permission, name, None) for name in ("op1_class", "op2_class")]
    marks = (_mark_of_permission(part) for part in parts if part is not None)
    return mark_of(permission) or next(filter(None, marks), None)
