"""Split a regular expression into literal text and parameters.

Groups and classes become parameters; nothing inside them is interpreted.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tcaptcha_middleware.integrations.routes.route import ANYTHING, Parameter, PathTemplate

if TYPE_CHECKING:
    from collections.abc import Iterator

# The beginning of a group; or an escape, class or character, with its quantifier.
_TOKEN = re.compile(
    r"\(|(?:\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.)(?:(?:[*+?]|\{\d*,?\d*\})[?+]?)?", re.DOTALL
)
_NAMED = re.compile(r"\(\?P<(\w+)>(.*)\)([^)]*)", re.DOTALL)
_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
_STARTS = ("^", r"\A")
_ENDS = ("$", r"\Z", r"\z")


def split(source: str, *, start: bool = False, end: bool = False) -> list[PathTemplate]:
    """Return the templates of a regular expression that is searched for in a path.

    Args:
        source: The expression; each of its alternatives is a template.
        start: Whether it is matched from the path's beginning, even without `^`.
        end: Whether nothing can follow it, even without `$`.
    """
    alternatives: list[list[str]] = [[]]
    for item in _items(_FLAGS.sub("", source)):
        if item == "|":
            alternatives.append([])
        else:
            alternatives[-1].append(item)
    return [_template(items, start=start, end=end) for items in alternatives]


def _template(items: list[str], *, start: bool, end: bool) -> PathTemplate:
    anything = (Parameter("", ANYTHING),)
    parts = [_part(item) for item in items if item not in (*_STARTS, *_ENDS)]
    before = () if start or (items and items[0] in _STARTS) else anything
    after = () if end or (items and items[-1] in _ENDS) else anything
    return PathTemplate((*before, *parts, *after))


def _items(source: str) -> Iterator[str]:
    """Yield each character, escape, class and outermost group, with its quantifier."""
    item, depth = "", 0
    for token in _TOKEN.findall(source):
        item += token
        depth += (token[0] == "(") - (token[0] == ")")
        if not depth:
            yield item
            item = ""


def _part(item: str) -> str | Parameter:
    if len(item) == 1 and item != ".":
        return item
    if re.fullmatch(r"\\[^\w]", item):
        return item[1:]
    if named := _NAMED.fullmatch(item):
        name, regex, quantifier = named.groups()
        return Parameter(name, f"(?:{regex}){quantifier}")
    return Parameter("", item)
