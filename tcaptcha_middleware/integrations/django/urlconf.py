"""The URLs of a project's marked views, and their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.marks import mark_of
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.integrations.rule_texts import rule_texts
from tcaptcha_middleware.matching.patterns import SAFE_METHODS, parse
from tcaptcha_middleware.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware.integrations.marks import Mark
    from tcaptcha_middleware.integrations.routes.route import Route


class _Project(WSGIHandler):  # type: ignore[misc]
    def __init__(self) -> None:
        """Load no middleware: ours needs the rules first."""


PROJECT: Any = _Project()
"""An application for `read` and `Guard.covers`; Django has the URLs in its settings."""


def marked_views() -> Iterator[tuple[Route, Rule]]:
    """Yield each URL of a view with `captcha_required`, and its rule.

    Raises:
        ConfigurationError: If no rule can express such a URL, or a `get` handler is marked.
    """
    for route in read(PROJECT):
        for method, mark in _marks(route):
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
            yield route, Rule(text, **mark.settings)


def _marks(route: Route) -> Iterator[tuple[str, Mark]]:
    """Yield the mark of a view for every unsafe method, or those of its handlers."""
    view = route.endpoint
    own = mark_of(view)
    if own is not None:
        yield "UNSAFE", own
        return
    # A class-based view; one of Django REST framework; the actions of its viewsets.
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    names = {name: name for name in getattr(kind, "http_method_names", ())}
    for method, name in (getattr(view, "actions", None) or names).items():
        mark = mark_of(getattr(kind, name, None))
        if mark is not None:
            yield method.upper(), mark
