"""Marks on handlers, and the rules that follow from them and from an application's routes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.integrations.rule_texts import rule_texts
from tcaptcha_middleware.matching.patterns import parse
from tcaptcha_middleware.rules import DeferringRule, Rule
from tcaptcha_middleware.settings import Settings
from tcaptcha_middleware.validation import validate_list, validate_verifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tcaptcha_middleware.integrations.routes.route import Route
    from tcaptcha_middleware.matching.patterns import Pattern

unlocked: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""The handlers, by their id, for which a decorator has returned a marked function."""

OPTION = "tcaptcha"
"""The key of a mark in the options of a handler of Litestar."""

_ATTRIBUTE = "_tcaptcha_mark"  # `functools.wraps` copies it to the function outside


@dataclass(frozen=True, eq=False)
class Mark:
    """What is remembered about a handler that is protected.

    Args:
        settings: Arguments of `Rule`, without the text.
        methods: The methods that need a ticket, as in a rule text; every one by default.
        may_defer: Whether the integration refuses what is deferred for unmarked handlers.

    Raises:
        ConfigurationError: If a setting or a method is not valid.
        TypeError: If there is no such setting.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    methods: Sequence[str] = ()
    may_defer: bool = field(default=False, repr=False)
    rule: Rule = field(init=False, repr=False)
    pattern: Pattern = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Validate at once, so the traceback shows the handler."""
        validate_list("methods", self.methods, '["POST"]')
        for method in self.methods:
            if not isinstance(method, str):
                raise ConfigurationError(
                    f'methods has {method!r}, which is not a method: write ["POST"]'
                )
        object.__setattr__(self, "rule", self.rule_for("/"))
        Settings(**self.rule.settings)
        if self.rule.verifier is not None:
            validate_verifier(self.rule.verifier)
        if self.defers and not self.may_defer:
            raise ConfigurationError(
                'mode="defer" is for views of Django only: use "enforce" or "observe"'
            )
        object.__setattr__(self, "pattern", parse(f"{','.join(self.methods)} /"))

    @property
    def defers(self) -> bool:
        """Whether the handler answers what the gate would refuse."""
        return self.settings.get("mode") == "defer"

    def concerns(self, holder: Mapping[str, Any]) -> bool:
        """Return whether a request needs a ticket, in any spelling of its method.

        Args:
            holder: Its ASGI scope or WSGI environ.
        """
        method = holder.get("method") or holder.get("REQUEST_METHOD") or "GET"
        return self.pattern.names(method.strip().upper())

    def rule_for(self, text: str) -> Rule:
        """Return the rule of a handler with this mark."""
        return (DeferringRule if self.defers else Rule)(text, **self.settings)


def attach(mark: Mark, handler: Any) -> None:
    """Remember a mark on the function or class that the router calls.

    Raises:
        ConfigurationError: If the handler has a mark, or cannot have one.
    """
    if hasattr(handler, _ATTRIBUTE):
        raise ConfigurationError(f"{handler!r} is marked twice: leave one mark out")
    try:
        setattr(handler, _ATTRIBUTE, mark)
    except AttributeError as error:
        raise ConfigurationError(f"{handler!r} cannot keep a mark: mark a function") from error


def wrapped(handler: Any, before: Callable[..., Any], *, is_async: bool) -> Any:
    """Return a function that calls a handler, unless another function has an answer.

    Args:
        handler: A function.
        before: Called first, with the same arguments; returns the answer, or None.
        is_async: Whether the handler has to be awaited.
    """
    if is_async:

        @wraps(handler)
        async def call(*arguments: Any, **named: Any) -> Any:
            answer = before(*arguments, **named)
            return await handler(*arguments, **named) if answer is None else answer

    else:

        @wraps(handler)
        def call(*arguments: Any, **named: Any) -> Any:
            answer = before(*arguments, **named)
            return handler(*arguments, **named) if answer is None else answer

    return call


def mark_of(endpoint: object) -> Mark | None:
    """Return the mark of a handler, or None."""
    while isinstance(endpoint, partial):
        endpoint = endpoint.func
    # Classes of Starlette and Django have a method that calls the one for the request's.
    found: Mark | None = getattr(getattr(endpoint, "dispatch", endpoint), _ATTRIBUTE, None)
    return found


def mark_in_options(handler: object) -> Mark | None:
    """Return the mark in the options of a handler of Litestar, or None.

    Raises:
        ConfigurationError: If no plugin has read the option.
    """
    option = getattr(handler, "opt", {}).get(OPTION, False)
    if option is False:
        return None
    if not isinstance(option, Mark):
        raise ConfigurationError(
            f"nothing reads the mark in opt of {handler}, or it was rejected: give its "
            "application plugins=[TCaptchaPlugin(verifier=…)]"
        )
    return option


def mark_of_route(route: Route) -> Mark | None:
    """Return the mark of a route's handler or of what FastAPI calls before it, or None.

    Raises:
        ConfigurationError: If there are marks with different settings, the handler was marked
            after the router got it, or its application does not read marks.
    """
    if unlocked.get(id(route.endpoint)) is not None:
        raise ConfigurationError(
            f"the route {route.path} calls {route.endpoint!r} without its mark: write the "
            "decorator for the captcha below the one for the route"
        )
    tree = getattr(route.definition, "dependant", None)  # codespell:ignore dependant
    handlers = [route.endpoint] if tree is None else _calls(tree)
    every = [*map(mark_of, handlers), mark_in_options(route.definition)]
    marks = [own for own in every if own is not None]
    if any(own.rule != marks[0].rule for own in marks):
        raise ConfigurationError(
            f"{route.endpoint!r} has marks with different settings: leave one, also of those "
            "that its router and its dependencies have"
        )
    return marks[0] if marks else None


def _calls(tree: Any) -> Iterator[object]:
    """Yield a handler and all that it depends on, also through other dependencies."""
    yield tree.call
    for inner in tree.dependencies:
        yield from _calls(inner)


def marked_rules(
    app: object, find: Callable[[Route], Mark | None] = mark_of_route
) -> list[Rule]:
    """Return a rule for each route whose handler is marked, the most specific ones first.

    Args:
        app: The application, with or without middlewares around it.
        find: Returns the mark of a route, or None.

    Raises:
        ConfigurationError: If no rule can express a marked route, or two contradict.
    """
    rules: dict[Pattern, Rule] = {}
    for route in read(app):
        marked = find(route)
        if marked is None:
            continue
        for text in rule_texts(route, marked.pattern):
            rule = Rule(text, **marked.settings)
            try:
                earlier = rules.setdefault(parse(text), rule)
            except ConfigurationError as error:
                raise ConfigurationError(f"{route.endpoint!r} is marked: {error}") from error
            if (earlier.settings, earlier.verifier) != (rule.settings, rule.verifier):
                raise ConfigurationError(
                    f"two handlers of {text!r} have marks with different settings"
                )
    return [rules[pattern] for pattern in sorted(rules, key=_generality)]


def _generality(pattern: Pattern) -> tuple[list[int], bool]:
    segments = [int(part is None) for part in pattern.path]
    return [*segments, 2] if pattern.below else segments, not pattern.methods
