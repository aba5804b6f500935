"""Read the routes of Bottle applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.integrations.routes.route import (
    Mounted,
    Parameter,
    PathTemplate,
    Route,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(app: Any) -> Iterator[Route | Mounted]:
    """Yield what an application serves; the methods of one function at one path together."""
    routes: dict[tuple[str, int], list[Any]] = {}
    mounts: dict[str, Any] = {}
    for route in app.routes:
        if "mountpoint.target" in route.config:
            prefix = route.config["mountpoint.prefix"].rstrip("/")
            mounts[prefix] = route.config["mountpoint.target"]
        else:
            routes.setdefault((route.rule, id(route.callback)), []).append(route)
    for (rule, _), same in routes.items():
        methods = frozenset(route.method for route in same)
        every = methods & {"ANY", "PROXY"}
        yield Route(None if every else methods, _template(app, rule), same[0].callback)
    for prefix, mounted in mounts.items():
        yield Mounted(PathTemplate((prefix,)), mounted)


def _template(app: Any, rule: str) -> PathTemplate:
    router = app.router
    parts: list[str | Parameter] = []
    # No public function splits a rule.
    for text, filter_, config in router._itertokens(rule):  # noqa: SLF001
        if filter_ is None:
            parts.append(text)
        else:
            name = router.default_filter if filter_ == "default" else filter_
            parts.append(Parameter(text or "", router.filters[name](config)[0]))
    return PathTemplate(tuple(parts))
