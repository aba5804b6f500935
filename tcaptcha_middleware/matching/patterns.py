"""Match: which requests are covered, and by which rule.

Rule texts are parsed and checked once, on construction, into a tree of path segments, so
that a look-up costs the same with one rule and with a thousand. Knows paths and methods;
knows nothing of tickets, verifiers or answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import TYPE_CHECKING, NamedTuple

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.matching.paths import forms, full_forms, is_plain, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tcaptcha_middleware.matching.paths import Segments

METHODS = frozenset(str(method) for method in HTTPMethod)

# What other routers call `{id}`. Bottle has `<id:int>`, and Flask and Django `<int:id>`; a
# converter for paths takes more than one segment.
_WORD = r"([^\W\d]\w*)"
_VARIABLE = re.compile(
    rf"\{{{_WORD}:(?!path)\w+\}}|<(?:(?:int|str|string|slug|uuid):)?{_WORD}>|:{_WORD}"
)

_REMEMBERED = 2048
_LONG = 512
_ENDLESS = 4096


class Pattern(NamedTuple):
    """One rule text, parsed.

    Attributes:
        methods: The methods that it names, `HEAD` beside `GET`; empty for every method.
        path: Its segments; None stands for `{x}`, which is any one segment.
        below: Whether everything below the path is meant too (`/**`).
    """

    methods: frozenset[str]
    path: tuple[str | None, ...]
    below: bool

    @property
    def is_everything(self) -> bool:
        """Whether no request is left that it is not about."""
        return self.below and not self.methods and not self.path

    def names(self, method: str) -> bool:
        """Tell whether the pattern is about `method`, which is upper-case."""
        return not self.methods or method in self.methods


def parse(text: str) -> Pattern:
    """Parse a rule text such as `"POST,PUT /users/{id}/email"` or `"/admin/**"`.

    Raises:
        ConfigurationError: The text is no rule; says what is wrong and how to mend it.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f'{text!r} is no text of a rule: write it as "POST /login"')
    *methods, path = text.split() or [""]
    if len(methods) > 1 or not path:
        raise _wrong(
            text, 'write it as "POST /login" or "POST,PUT /login", or "/login" for every method'
        )
    if not path.startswith("/"):
        raise _wrong(text, 'its path stands last and begins with a slash: "POST /login"')
    if any(mark in path for mark in "?#%\\;"):
        raise _wrong(text, "write the decoded path alone, without query, escapes or parameters")
    below = path.endswith("/**")
    parts = segments(path.removesuffix("**"))
    return Pattern(
        frozenset().union(*(_methods(text, names, path) for names in methods)),
        tuple(_segment(text, part) for part in parts),
        below,
    )


def _methods(text: str, names: str, path: str) -> frozenset[str]:
    methods = frozenset(names.split(","))
    if not methods <= METHODS:
        raise _wrong(text, _known(names, path))
    # A server answers HEAD by running the GET handler (RFC 9110, section 9.3.2).
    return methods | {"HEAD"} if "GET" in methods else methods


def _known(names: str, path: str) -> str:
    if METHODS.issuperset(names.upper().split(",")):
        return f'write "{names.upper()} {path}"'
    return (
        f"{names!r} is no HTTP method ({', '.join(sorted(METHODS))}); a websocket's handshake "
        f'is a GET, and "{path}" alone covers every method'
    )


def _segment(text: str, part: str) -> str | None:
    if part.startswith("{") and part.endswith("}") and part[1:-1].isidentifier():
        return None
    # `<id>` and `:id` are what other routers call `{id}`; as words they would protect nothing.
    if any(mark in part for mark in "{}<>*") or part[:1] == ":" or part in (".", ".."):
        raise _wrong(text, f"{part!r} is no segment: {_any_one(part)}")
    return part


def _any_one(part: str) -> str:
    variable = _VARIABLE.fullmatch(part)
    if variable is not None:
        name = "".join(variable.groups(""))
        return f'write "{{{name}}}"'
    return 'use a word, "{name}" for any one, "/**" at the end for all below'


def _wrong(text: str, mend: str) -> ConfigurationError:
    return ConfigurationError(f"rule {text!r} cannot work: {mend}")


@dataclass(slots=True)
class _Node:
    """One segment's place in the tree, with the entries that end here or cover all below."""

    children: dict[str | None, _Node] = field(default_factory=dict)
    here: list[tuple[int, Pattern]] = field(default_factory=list)
    below: list[tuple[int, Pattern]] = field(default_factory=list)


class Table:
    """Patterns in the order they were given, looked up by method and path.

    Args:
        patterns: What to look for; the first in this order wins.
    """

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._root = _Node()
        for number, pattern in enumerate(patterns):
            node = self._root
            for part in pattern.path:
                node = node.children.setdefault(part, _Node())
            (node.below if pattern.below else node.here).append((number, pattern))

    def find(self, method: str, path: Segments) -> int | None:
        """Return the number of the first pattern that covers `method` on `path`."""
        return min(
            (n for n, pattern in _entries(self._root, path) if pattern.names(method)),
            default=None,
        )


def _entries(root: _Node, path: Segments) -> Iterator[tuple[int, Pattern]]:
    nodes = [root]
    for part in path:
        for node in nodes:
            yield from node.below
        nodes = [
            child
            for node in nodes
            for child in (node.children.get(part), node.children.get(None))
            if child is not None
        ]
        if not nodes:
            return
    for node in nodes:
        yield from node.below
        yield from node.here


Target = tuple[str, str, bytes, str]
"""A request's method, path, raw path and root path, as `Matcher.match` takes them."""


class MatchCache(dict[Target, int | None]):
    """Which rule covers each target: matched when first looked up, and then remembered.

    A mapping, because every request looks one up, and a look-up calls no function of ours.

    Args:
        match: `Matcher.match`.
    """

    __slots__ = ("_match",)

    def __init__(self, match: Callable[[str, str, bytes, str], int | None]) -> None:
        super().__init__()
        self._match = match

    def __missing__(self, target: Target) -> int | None:
        """Match it. Most requests are for few targets, and those are short."""
        found = self._match(*target)
        if sum(map(len, target)) <= _LONG:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[target] = found
        return found


class Matcher:
    """Rules and exemptions together: which rule covers a request, if any.

    A rule protects if any form of the target matches it; an exemption counts only if all
    forms match one. So a target that is written in some odd way is never let through.

    Args:
        rules: Parsed rule texts, the first that matches wins.
        exempt: Parsed texts of what is never covered, as the application's own paths.

    Attributes:
        unnamed: The methods that no rule is about, as servers spell them; one that is spelled
            in any other way has to be matched.
    """

    def __init__(self, rules: Sequence[Pattern], exempt: Sequence[Pattern] = ()) -> None:
        named = [pattern.methods or METHODS for pattern in rules]
        self.unmatched_methods: frozenset[str] = METHODS.difference(*named)
        self._patterns = tuple(rules)
        self._rules = Table(rules)
        self._exempt = Table(exempt)

    def match(
        self, method: str, path: str, raw_path: bytes = b"", root_path: str = ""
    ) -> int | None:
        """Return the number of the rule that covers the request, or None.

        Args:
            method: The method as it came; case and blanks do not matter.
            path: The decoded path.
            raw_path: The path's bytes before decoding, where the server tells them.
            root_path: Where the application is mounted.
        """
        if not root_path and is_plain(path, raw_path) and method in METHODS:
            form = segments(path)
            rule = self._rules.find(method, form)
            return None if rule is None or self._exempt.find(method, form) is not None else rule
        method = method.strip().upper()
        if len(path) + len(raw_path) > _ENDLESS:
            return self._match_any(method)
        return self._match_forms(method, path, raw_path, root_path)

    def _match_any(self, method: str) -> int | None:
        # Whoever writes so long a target in so odd a way could mean any path at all, and
        # wants the time that it takes to find out.
        named = (n for n, pattern in enumerate(self._patterns) if pattern.names(method))
        return next(named, None)

    def _match_forms(
        self, method: str, path: str, raw_path: bytes, root_path: str
    ) -> int | None:
        inner = forms(path, raw_path, root_path)
        every = full_forms(inner, path, raw_path, root_path)
        found = [self._rules.find(method, form) for form in every]
        rules = [rule for rule in found if rule is not None]
        if not rules or all(self._exempt.find(method, form) is not None for form in inner):
            return None
        return min(rules)
