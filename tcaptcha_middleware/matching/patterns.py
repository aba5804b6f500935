"""Rule texts such as `"POST /login"`, and the tree that finds those that a path matches.

Knows paths and methods, but no settings. A search costs the same with one rule and with ten
thousand: it visits only nodes that the path names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from http import HTTPMethod
from typing import TYPE_CHECKING, NamedTuple

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.matching.paths import INVISIBLE, MARK, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

METHODS = frozenset(str(method) for method in HTTPMethod)

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""The methods that `UNSAFE` leaves out."""

# What other routers call `{id}`. Bottle has `<id:int>`, and Flask and Django `<int:id>`; a
# converter for paths takes more than one segment.
_WORD = r"([^\W\d]\w*)"
_VARIABLE = re.compile(
    rf"\{{{_WORD}:(?!path)\w+\}}|<(?:(?:int|str|string|slug|uuid):)?{_WORD}>|:{_WORD}"
)
# A `..` segment, also with parameters behind it, which are left to the text that follows.
_PARENT = re.compile(r"/\s*+\.\.\s*+(?=[/?#;]|\Z)")


class Pattern(NamedTuple):
    """One rule text, parsed.

    Attributes:
        known_methods: The standard methods that it includes, `HEAD` beside `GET`.
        path: Its segments as written; None for `{x}`, which is any one segment.
        below: Whether everything below the path is included (`/**`).
        passes_preflights: Whether no method is named, but all, or all that are unsafe. Then a
            CORS preflight needs no ticket, and methods that are not standard are included.
    """

    known_methods: frozenset[str]
    path: tuple[str | None, ...]
    below: bool
    passes_preflights: bool

    def __str__(self) -> str:
        """Return the text of such a rule, with the variables' names left out."""
        methods = "UNSAFE" if self.unsafe else ",".join(sorted(self.methods))
        path = "".join("/" + (part or "{}") for part in self.path)
        return f"{methods} {path}{'/**' if self.below else ''}".strip()

    @property
    def methods(self) -> frozenset[str]:
        """The methods that it lists; empty if it names all, or all that are unsafe."""
        return frozenset() if self.passes_preflights else self.known_methods

    @property
    def unsafe(self) -> bool:
        """Whether it names every method but `SAFE_METHODS`."""
        return self.passes_preflights and "GET" not in self.known_methods

    @property
    def is_everything(self) -> bool:
        """Whether it matches every request."""
        return self.below and not self.methods and not self.path and not self.unsafe

    def names(self, method: str) -> bool:
        """Return whether the pattern includes `method`, which is upper-case."""
        return method in self.known_methods or (
            self.passes_preflights and method not in METHODS
        )

    def is_written_as(self, path: Sequence[str]) -> bool:
        """Return whether a path that it matches in lower case has its own letter case too."""
        return all(
            part is None or part == own for part, own in zip(self.path, path, strict=False)
        )


def parse(text: str) -> Pattern:
    """Parse a rule text.

    `"POST,PUT /users/{id}/email"`, `"UNSAFE /login"` (every method but GET and HEAD), or
    `"/admin/**"` (every method, that path and everything below).

    Raises:
        ConfigurationError: If the text is not a rule; says what is wrong, and the fix.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f'{text!r} is not the text of a rule: write "POST /login"')
    *words, path = text.split() or [""]
    if len(words) > 1 or not path:
        raise _wrong(
            text, 'write it as "POST /login" or "POST,PUT /login", or "/login" for every method'
        )
    if not path.startswith("/"):
        raise _wrong(text, 'its path comes last and begins with a slash: "POST /login"')
    if any(mark in path for mark in "?#%\\;") or INVISIBLE.search(path):
        raise _wrong(text, "write the decoded path alone, without query, escapes or parameters")
    names = words[0] if words else ""
    methods = METHODS - SAFE_METHODS if names == "UNSAFE" else METHODS
    if names not in ("", "UNSAFE"):
        methods = frozenset(names.split(","))
        if not methods <= METHODS:
            upper = names.upper()
            if upper == "UNSAFE" or METHODS.issuperset(upper.split(",")):
                raise _wrong(text, f'write "{upper} {path}"')
            raise _wrong(
                text,
                f"{names!r} is not an HTTP method ({', '.join(sorted(METHODS))}), nor UNSAFE "
                f'alone; a websocket\'s handshake is a GET, and "{path}" alone includes every '
                "method",
            )
        if "GET" in methods:
            # A server answers HEAD by running the GET handler (RFC 9110, section 9.3.2).
            methods |= {"HEAD"}
    return Pattern(
        methods,
        tuple(_segment(text, part) for part in segments(path.removesuffix("/**"))),
        below=path.endswith("/**"),
        passes_preflights=names in ("", "UNSAFE"),
    )


def _segment(text: str, part: str) -> str | None:
    if part.startswith("{") and part.endswith("}") and part[1:-1].isidentifier():
        return None
    # `<id>` and `:id` are what other routers call `{id}`; as words they would protect nothing.
    if any(mark in part for mark in "{}<>*") or part[:1] == ":" or part in (".", ".."):
        variable = _VARIABLE.fullmatch(part)
        if variable is None:
            fix = 'use a word, "{name}" for any one, "/**" at the end for all below'
        else:
            fix = f'write "{{{"".join(variable.groups(""))}}}"'
        raise _wrong(text, f"{part!r} cannot be a segment: {fix}")
    return part


def _wrong(text: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"rule {text!r} cannot work: {fix}")


@dataclass(slots=True, eq=False)
class Node:
    """One segment's place in the tree.

    Attributes:
        children: The next segments; None for `{x}`, which is any segment.
        here: Patterns that end here, by their number.
        below: Patterns that end here and include everything below, by their number.
    """

    children: dict[str | None, Node] = field(default_factory=dict)
    here: dict[int, Pattern] = field(default_factory=dict)
    below: dict[int, Pattern] = field(default_factory=dict)


class Tree:
    """Patterns in the order they were given, looked up by method and path.

    Args:
        patterns: What to look for.
        spelled: Returns a segment as searches will have it, such as in lower case.
    """

    def __init__(self, patterns: Iterable[Pattern], spelled: Callable[[str], str]) -> None:
        self.root: Node = Node()
        for number, pattern in enumerate(patterns):
            node = self.root
            for part in pattern.path:
                key = None if part is None else spelled(part)
                node = node.children.setdefault(key, Node())
            (node.below if pattern.below else node.here)[number] = pattern

    def find(self, method: str, path: Sequence[str]) -> dict[int, Pattern]:
        """Return every pattern that names `method` and matches exactly these segments."""
        nodes = [self.root]
        found: dict[int, Pattern] = {}
        for part in path:
            children = []
            for node in nodes:
                if node.below:
                    found |= node.below
                if (child := node.children.get(part)) is not None:
                    children.append(child)
                if (child := node.children.get(None)) is not None:
                    children.append(child)
            nodes = children
            if not nodes:
                break
        for node in nodes:
            found |= node.below | node.here
        return {number: pattern for number, pattern in found.items() if pattern.names(method)}

    def touch(
        self, method: str, texts: Iterable[str], mounts: Iterable[str], *, stems: bool
    ) -> dict[int, Pattern]:
        """Return every pattern that names `method` and that some reading of a text touches.

        Args:
            method: The method, in upper case.
            texts: What `cleaned` returned for the target.
            mounts: Paths that may come before what a text names.
            stems: Whether segments may also be read without their last extension.
        """
        starts, doors, reached = {self.root}, set[Node](), set[Node]()
        for mount in mounts:
            # Rules may name the full path, so a reading may begin behind the mount in the tree;
            # and what begins with the mount may be read as if it was not there.
            passed, ends = _reach({self.root}, set(), mount, stems=False)
            reached |= passed
            head = door = Node()
            for part in segments(mount):
                door = door.children.setdefault(part, Node())
            starts |= ends | {head}
            doors.add(door)
        found: dict[int, Pattern] = {}
        for text in texts:
            passed, ends = _reach(starts, doors, text, stems=stems)
            reached |= passed
            for node in ends:
                found |= node.here
        for node in reached:
            found |= node.below
        return {number: pattern for number, pattern in found.items() if pattern.names(method)}


def _reach(
    starts: set[Node], doors: set[Node], text: str, *, stems: bool
) -> tuple[set[Node], set[Node]]:
    """Return the nodes that some reading of `text` reaches, and those at which one may end.

    Moves a set of nodes on by one segment at a time, instead of listing the readings, which
    are a product: so the cost is linear. It may reach a node that no router does; it must
    never miss one.

    Args:
        starts: Nodes at which a reading begins.
        doors: Nodes at which a reading may begin again.
        text: A cleaned text.
        stems: Whether segments may also be read without their last extension.
    """
    reached, nodes, ends = set(starts), set(starts), set[Node]()
    path = "/" + text.lstrip("/")
    # A scheme or a host may come first, unless there is exactly one slash.
    opens = path != text
    runs = _PARENT.split(path) if ".." in path else [path]
    for number, run in enumerate(runs):
        parameters, slash, rest = run.partition("/")
        if number:
            # `..` may lead to any node reached so far: to keep the depth would cost a product.
            # To a router that does not resolve it, it is a segment like others.
            nodes = reached | _children(nodes, [None])
            reached |= nodes
            if parameters:
                ends |= nodes
        while slash and nodes:
            part, slash, rest = rest.partition("/")
            # Falcon takes an empty segment for a `{x}`, except behind the last slash.
            any_segment = bool(part or slash or number < len(runs) - 1)
            names = _names(part, any_segment=any_segment, opens=opens, stems=stems)
            children = _children(nodes, names)
            nodes = children | nodes if "" in names else children
            if not nodes.isdisjoint(doors):
                nodes |= starts
            reached |= nodes
            if MARK.search(part):
                ends |= nodes
            opens = not part.strip() and not nodes.isdisjoint(starts)
    return reached, ends | nodes


def _children(nodes: set[Node], names: Collection[str | None]) -> set[Node]:
    return {child for node in nodes for name in names if (child := node.children.get(name))}


def _names(part: str, *, any_segment: bool, opens: bool, stems: bool) -> Collection[str | None]:
    """Return the keys that a segment may be read as; an empty one if it may be left out."""
    if part.isalnum() and not opens:
        return part, None
    names = {part.strip()}
    if opens:
        # RFC 9112, section 3.2.2. A scheme needs no slash behind it: `http:login`.
        names |= {"", part.partition(":")[2].strip()}
    names |= {MARK.split(name, 1)[0].rstrip() for name in names}
    if "." in names:
        names.add("")
    if stems:
        names |= {name.rpartition(".")[0] for name in names if name.rfind(".") > 0}
    return {*names, None} if any_segment else names
