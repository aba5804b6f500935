"""The rules' patterns as a tree of path segments, searched by one path or by every reading.

A search costs the same with one rule and with ten thousand: it visits only nodes that the
path names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcaptcha_middleware.matching.paths import MARK, segments

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from tcaptcha_middleware.matching.patterns import Pattern

# A `..` segment, also with parameters behind it, which are left to the text that follows.
_PARENT = re.compile(r"/\s*+\.\.\s*+(?=[/?#;]|\Z)")


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
