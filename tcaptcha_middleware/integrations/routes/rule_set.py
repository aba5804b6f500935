"""`RuleSet`: a guard's rules, which of them match a route, and what the others may mean."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from tcaptcha_middleware.browser import MODULE
from tcaptcha_middleware.browser.page import Page
from tcaptcha_middleware.findings import Finding
from tcaptcha_middleware.matching.matcher import Matcher
from tcaptcha_middleware.matching.patterns import METHODS, parse
from tcaptcha_middleware.rules import AmbiguousTarget, as_rule, exemptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.integrations.routes.route import Route
    from tcaptcha_middleware.matching.patterns import Pattern

OTHER = "OTHER"
"""A method of no standard; what answers every method answers it, too."""

NOTHING_MARKED = "(no handler is marked)"
"""The name of the only rule of a `MarkedGuard` without marks and rules, which is no finding."""


def answered_methods(route: Route) -> tuple[str, ...]:
    """Return the methods that requests for a route may have; a handshake's is GET."""
    if route.websocket:
        return ("GET",)
    return (*sorted(METHODS), OTHER) if route.methods is None else written(route.methods)


def written(methods: Iterable[str]) -> tuple[str, ...]:
    """Return methods as a rule text has them: sorted, without the HEAD that GET includes."""
    names = set(methods)
    return tuple(sorted(names - {"HEAD"} if "GET" in names else names))


class RuleSet:
    """A guard's rules, compared with the routes behind it.

    Args:
        guard: The guard.
        root: The path before the application's own.
    """

    def __init__(self, guard: Guard, root: str) -> None:
        self._guard = guard
        self._root = root
        rules = map(as_rule, guard.rules)
        self._patterns = {rule.name or rule.text: parse(rule.text) for rule in rules}
        self._patterns.pop(NOTHING_MARKED, None)
        self._exempt = Matcher(exemptions(guard.exempt))
        self._used: set[str] = set()
        self._paths: dict[tuple[str, str], dict[str, None]] = {}
        self._alone: dict[str, Matcher] = {}  # of one rule each

    def match(self, method: str, path: str, mount: str) -> list[str]:
        """Return the names of the rules that judge a request; several if it is ambiguous.

        Args:
            method: The method.
            path: The path, from the outermost application on.
            mount: Where the guard's middleware is mounted in it.
        """
        rule = self._guard.match(method, self._root + path, b"", self._root + mount)
        rules = rule.rules if isinstance(rule, AmbiguousTarget) else (rule,) if rule else ()
        names = [rule.name for rule in rules]
        self._used.update(names)
        return names

    def exempts(self, method: str, path: str, mount: str) -> bool:
        """Return whether a request without a rule is exempt; for the arguments see `match`."""
        return self._exempt.match(method, *self._target(path, mount)) is not None

    def _target(self, path: str, mount: str) -> tuple[str, bytes, str, str]:
        """Return the target of a request without its method, as a matcher takes it."""
        return self._root + path, b"", self._root + mount, self._guard.mounted_at

    def unused(self) -> list[str]:
        """Return the names of the rules that have not judged any request so far."""
        return [name for name in self._patterns if name not in self._used]

    def paths_of(self, name: str, route: Route) -> list[str]:
        """Return example paths of a rule that its guard would see as requests for a route."""
        mounts = [gate.mount for gate in route.gates if gate.guard is self._guard]
        candidates = [path for mount in mounts for path in self._requested(name, mount)]
        # A rule such as "/api/**" has few examples of its own, and matches many of the route's.
        if name not in self._alone:
            self._alone[name] = Matcher([self._patterns[name]])
        alone = self._alone[name]
        candidates += [
            path
            for mount in mounts
            for path in route.path.examples
            for method in answered_methods(route)
            if alone.match(method, *self._target(path, mount)) is not None
        ]
        return list(filter(route.path.accepts, candidates))

    def _requested(self, name: str, mount: str) -> Iterable[str]:
        """Return paths that a rule matches, as the outermost application sees them."""
        if (name, mount) not in self._paths:
            self._paths[name, mount] = dict.fromkeys(
                path
                for example in _examples(self._patterns[name])
                for own in (example, mount + example, example.removeprefix(self._root))
                for path in (own, f"{own}/")
            )
        return self._paths[name, mount]

    def dead(self, name: str, routes: Sequence[Route]) -> Finding:
        """Return the finding for a rule that matches no route.

        Args:
            name: The rule's name.
            routes: All routes of the application.
        """
        pattern = self._patterns[name]
        path = str(pattern).rpartition(" ")[2].replace("{}", "{x}")
        methods = ("UNSAFE",) if pattern.unsafe else written(pattern.methods)
        same = [route for route in routes if self.paths_of(name, route)]
        answered = [method for route in same for method in answered_methods(route)]
        if any(map(pattern.names, answered)):
            detail = "an earlier rule judges all that it matches"
        elif same:
            detail = f"{same[0].path} answers only {', '.join(written(answered))}"
        else:
            named = [r for r in routes if any(map(pattern.names, answered_methods(r)))]
            # A route that has a rule already is less likely to be meant.
            close = _closest(path, [r for r in named if not self._judges(r)])
            close = close or _closest(path, named)
            text = str(Finding("dead", methods, close))
            detail = f'did you mean "{text}"?' if close else "no route is like it"
        return Finding("dead", methods, path, name, detail)

    def _judges(self, route: Route) -> bool:
        """Return whether a rule judges some request for a route."""
        mounts = [gate.mount for gate in route.gates if gate.guard is self._guard]
        return any(
            self.match(method, path, mount)
            for mount in mounts
            for path in route.path.examples
            for method in answered_methods(route)
        )

    def shadowed(self, routes: Sequence[Route]) -> Iterator[Finding]:
        """Yield a finding for each page path that is the path of a route, too.

        Routes for everything, such as that of a single-page application, do not count.

        Args:
            routes: All routes of the application.
        """
        page = self._guard.page
        if not isinstance(page, Page):
            return
        gated = [(route, gate) for route in routes for gate in route.gates]
        hidden: dict[str, Route] = {}
        for route, gate in gated:
            below = f"{gate.mount}{page.path}/"
            if gate.guard is self._guard and str(route.path).startswith(below):
                for path in (below + MODULE, f"{below}settings.json"):
                    if route.path.accepts(path):
                        hidden.setdefault(path, route)
        for path, route in hidden.items():
            detail = f"the page answers, not the route {route.path}: change page="
            yield Finding("shadowed", ("GET",), path, detail=detail)


def _closest(path: str, routes: Iterable[Route]) -> str:
    """Return the route's path that is most like a rule's, as a rule text has it, or ""."""
    paths = [re.sub(r"/\{\w*:path\}$", "/**", str(route.path)) for route in routes]
    return next(iter(get_close_matches(path, paths, n=1)), "")


def _examples(pattern: Pattern) -> Iterator[str]:
    """Yield paths that a rule matches."""
    for value in ("value", "7") if None in pattern.path else ("",):
        path = "".join(f"/{part or value}" for part in pattern.path)
        yield path or "/"
        if pattern.below:
            yield f"{path}/value"
            yield f"{path}/value/value"
