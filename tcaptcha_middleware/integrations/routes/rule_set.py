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
from tcaptcha_middleware.rules import AmbiguousTarget, as_rule

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
        self._exempt = {text: parse(text) for text in guard.exempt}
        self._used: set[str] = set()
        self._paths: dict[tuple[Pattern, str], dict[str, None]] = {}
        self._alone: dict[Pattern, Matcher] = {}  # of one rule or exemption each

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

    def exemption(self, method: str, path: str, mount: str) -> str:
        """Return the text in `exempt` that a request matches, or ""; see `match`."""
        matching = (
            text
            for text, pattern in self._exempt.items()
            if self._matches(pattern, method, path, mount)
        )
        return next(matching, "")

    def _matches(self, pattern: Pattern, method: str, path: str, mount: str) -> bool:
        if pattern not in self._alone:
            self._alone[pattern] = Matcher([pattern])
        root_path, mounted_at = self._root + mount, self._guard.mounted_at
        target = method, self._root + path, b"", root_path, mounted_at
        return self._alone[pattern].match(*target) is not None

    def unused(self) -> list[str]:
        """Return the names of the rules that have not judged any request so far."""
        return [name for name in self._patterns if name not in self._used]

    def sampled(self, *, with_exempt: bool) -> list[Pattern]:
        """Return what may match only requests that no example of a route has.

        Args:
            with_exempt: Include exemptions; only a table of all routes needs them.
        """
        exempt = self._exempt.values() if with_exempt else ()
        return [*(self._patterns[name] for name in self.unused()), *exempt]

    def paths_of(self, pattern: Pattern, route: Route) -> list[str]:
        """Return paths that a rule or exemption matches, and that lead to a route."""
        mounts = self._mounts(route)
        candidates = [path for mount in mounts for path in self._requested(pattern, mount)]
        # A rule such as "/api/**" has few examples of its own, and matches many of the route's.
        candidates += [
            path
            for mount in mounts
            for path in route.path.examples
            for method in answered_methods(route)
            if self._matches(pattern, method, path, mount)
        ]
        return list(filter(route.path.accepts, candidates))

    def _mounts(self, route: Route) -> list[str]:
        return [gate.mount for gate in route.gates if gate.guard is self._guard]

    def _requested(self, pattern: Pattern, mount: str) -> Iterable[str]:
        """Return paths that a pattern matches, as the outermost application sees them."""
        if (pattern, mount) not in self._paths:
            self._paths[pattern, mount] = dict.fromkeys(
                path
                for example in _examples(pattern)
                for own in (example, mount + example, example.removeprefix(self._root))
                for path in (own, f"{own}/")
            )
        return self._paths[pattern, mount]

    def dead(self, name: str, routes: Sequence[Route]) -> Finding:
        """Return the finding for a rule that matches no route.

        Args:
            name: The rule's name.
            routes: All routes of the application.
        """
        pattern = self._patterns[name]
        path = str(pattern).rpartition(" ")[2].replace("{}", "{x}")
        methods = ("UNSAFE",) if pattern.unsafe else written(pattern.methods)
        same = [route for route in routes if self.paths_of(pattern, route)]
        answered = [method for route in same for method in answered_methods(route)]
        if any(map(pattern.names, answered)):
            detail = self._why_unused(pattern, same)
        elif same:
            detail = f"{same[0].path} answers only {', '.join(written(answered))}"
        else:
            named = [r for r in routes if any(map(pattern.names, answered_methods(r)))]
            # A route that has a rule already is less likely to be meant.
            close = _closest(path, [r for r in named if not self._judges(r)])
            close = close or _closest(path, named)
            text = str(Finding("dead", methods, close))
            unlike = "no route is like it" if routes else "the application has no routes"
            detail = f'did you mean "{text}"?' if close else unlike
        return Finding("dead", methods, path, name, detail)

    def _why_unused(self, pattern: Pattern, routes: Iterable[Route]) -> str:
        """Return what keeps a rule from judging the requests for these routes."""
        requests = [
            (method, path, mount)
            for route in routes
            for mount in self._mounts(route)
            for path in self.paths_of(pattern, route)
            for method in filter(pattern.names, answered_methods(route))
        ]
        unjudged = [request for request in requests if not self.match(*request)]
        texts = dict.fromkeys(self.exemption(*request) for request in unjudged)
        exempt = ", ".join(filter(None, texts))
        if not exempt:
            return "an earlier rule judges all that it matches"
        is_all = len(unjudged) == len(requests)
        what = "all that it matches" if is_all else "what no earlier rule judges"
        return f"{what} is exempt: {exempt}"

    def _judges(self, route: Route) -> bool:
        """Return whether a rule judges some request for a route."""
        return any(
            self.match(method, path, mount)
            for mount in self._mounts(route)
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
