"""Parse rule texts such as `"POST /login"`; knows paths and methods, but no settings."""

from __future__ import annotations

import re
from http import HTTPMethod
from typing import TYPE_CHECKING, NamedTuple

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.matching.paths import INVISIBLE, segments

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS = frozenset(str(method) for method in HTTPMethod)

SAFE_METHODS = frozenset({"GET", "HEAD"})
"""The methods that `UNSAFE` leaves out."""

# What other routers call `{id}`. Bottle has `<id:int>`, and Flask and Django `<int:id>`; a
# converter for paths takes more than one segment.
_WORD = r"([^\W\d]\w*)"
_VARIABLE = re.compile(
    rf"\{{{_WORD}:(?!path)\w+\}}|<(?:(?:int|str|string|slug|uuid):)?{_WORD}>|:{_WORD}"
)


class Pattern(NamedTuple):
    """One rule text, parsed.

    Attributes:
        methods: The methods that it names, `HEAD` beside `GET`; empty for every method, or
            for every one but `SAFE_METHODS` if it is `unsafe`.
        path: Its segments as written; None for `{x}`, which is any one segment.
        below: Whether everything below the path is included (`/**`).
        unsafe: Whether it names every method but `SAFE_METHODS`, unknown ones too.
    """

    methods: frozenset[str]
    path: tuple[str | None, ...]
    below: bool
    unsafe: bool = False

    def __str__(self) -> str:
        """Return the text of such a rule, with the variables' names left out."""
        methods = "UNSAFE" if self.unsafe else ",".join(sorted(self.methods))
        path = "".join("/" + (part or "{}") for part in self.path)
        return f"{methods} {path}{'/**' if self.below else ''}".strip()

    @property
    def is_everything(self) -> bool:
        """Whether it matches every request."""
        return self.below and not self.methods and not self.path and not self.unsafe

    @property
    def known_methods(self) -> frozenset[str]:
        """The standard methods that it names."""
        return self.methods or (METHODS - SAFE_METHODS if self.unsafe else METHODS)

    @property
    def passes_preflights(self) -> bool:
        """Whether a CORS preflight needs no ticket, because no method is named."""
        return not self.methods

    def names(self, method: str) -> bool:
        """Return whether the pattern includes `method`, which is upper-case."""
        if self.unsafe:
            return method not in SAFE_METHODS
        return not self.methods or method in self.methods

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
    *methods, path = text.split() or [""]
    if len(methods) > 1 or not path:
        raise _wrong(
            text, 'write it as "POST /login" or "POST,PUT /login", or "/login" for every method'
        )
    if not path.startswith("/"):
        raise _wrong(text, 'its path comes last and begins with a slash: "POST /login"')
    if any(mark in path for mark in "?#%\\;") or INVISIBLE.search(path):
        raise _wrong(text, "write the decoded path alone, without query, escapes or parameters")
    unsafe = methods == ["UNSAFE"]
    return Pattern(
        frozenset() if unsafe or not methods else _methods(text, methods[0], path),
        tuple(_segment(text, part) for part in segments(path.removesuffix("/**"))),
        below=path.endswith("/**"),
        unsafe=unsafe,
    )


def _methods(text: str, names: str, path: str) -> frozenset[str]:
    methods = frozenset(names.split(","))
    if not methods <= METHODS:
        raise _wrong(text, _method_advice(names, path))
    # A server answers HEAD by running the GET handler (RFC 9110, section 9.3.2).
    return methods | {"HEAD"} if "GET" in methods else methods


def _method_advice(names: str, path: str) -> str:
    upper = names.upper()
    if upper == "UNSAFE" or METHODS.issuperset(upper.split(",")):
        return f'write "{upper} {path}"'
    return (
        f"{names!r} is not an HTTP method ({', '.join(sorted(METHODS))}), nor UNSAFE alone; a "
        f'websocket\'s handshake is a GET, and "{path}" alone includes every method'
    )


def _segment(text: str, part: str) -> str | None:
    if part.startswith("{") and part.endswith("}") and part[1:-1].isidentifier():
        return None
    # `<id>` and `:id` are what other routers call `{id}`; as words they would protect nothing.
    if any(mark in part for mark in "{}<>*") or part[:1] == ":" or part in (".", ".."):
        raise _wrong(text, f"{part!r} cannot be a segment: {_any_one(part)}")
    return part


def _any_one(part: str) -> str:
    variable = _VARIABLE.fullmatch(part)
    if variable is not None:
        name = "".join(variable.groups(""))
        return f'write "{{{name}}}"'
    return 'use a word, "{name}" for any one, "/**" at the end for all below'


def _wrong(text: str, mend: str) -> ConfigurationError:
    return ConfigurationError(f"rule {text!r} cannot work: {mend}")
