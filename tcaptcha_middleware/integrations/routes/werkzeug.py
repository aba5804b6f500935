"""Read the routes of Flask and Quart applications, which keep them in a map of Werkzeug's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.integrations.routes.route import Parameter, PathTemplate, Route

if TYPE_CHECKING:
    from collections.abc import Iterator


def read(app: Any) -> Iterator[Route]:
    """Yield what an application serves, in the order of its rules."""
    for rule in app.url_map.iter_rules():
        if rule.build_only:
            continue
        methods = rule.methods
        # The answer to OPTIONS that Flask adds does not call the view.
        if methods is not None and rule.provide_automatic_options:
            methods = methods - {"OPTIONS"}
        yield Route(
            None if methods is None or rule.websocket else frozenset(methods),
            _template(rule),
            app.view_functions.get(rule.endpoint),
            websocket=rule.websocket,
        )


def _template(rule: Any) -> PathTemplate:
    # No public attribute has the converters' arguments. The host comes before a bar.
    trace, converters = rule._trace, rule._converters  # noqa: SLF001
    return PathTemplate(
        tuple(
            Parameter(text, converters[text].regex) if is_variable else text
            for is_variable, text in trace[trace.index((False, "|")) + 1 :]
        )
    )
