"""`Route`: what readers return, and the example paths of its template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.guard import Guard

SEGMENT = "[^/]+"
ANYTHING = ".*"

# One value of each kind that a parameter accepts becomes part of an example: a segment, a
# segment of digits, several segments, none.
_KINDS = (
    ("value", "some-value"),
    ("7", "1.5", "2024-01-31", "01234567-89ab-4def-8123-456789abcdef"),
    ("value/value",),
    ("value/value/value",),
    ("",),
)
# For what accepts none of these: `[a-z]{2}`, `\d{4}`.
_LENGTHS = [letter * length for length in range(1, 65) for letter in ("7", "a")]
_MOST_VALUES = 20


class Parameter(NamedTuple):
    """The variable part of a template.

    Attributes:
        name: Its name; empty if it is unnamed.
        regex: What the router accepts for it.
    """

    name: str
    regex: str

    def accepts(self, value: str) -> bool:
        """Return whether the router accepts a value."""
        return re.fullmatch(self.regex, value, re.IGNORECASE | re.DOTALL) is not None

    @property
    def values(self) -> list[str]:
        """Values that the router accepts, of different kinds; empty if none was found."""
        kinds = (next(filter(self.accepts, kind), None) for kind in _KINDS)
        values = [value for value in kinds if value is not None]
        # The words of `(en|de)` are its values.
        others = dict.fromkeys([*re.findall(r"[\w.-]+", self.regex), *_LENGTHS])
        return values or list(filter(self.accepts, others))[:_MOST_VALUES]

    def __str__(self) -> str:
        """Return it as part of a template; nothing for an unnamed part that may be absent."""
        if self.accepts("value/value"):
            return f"{{{self.name or 'any'}:path}}"
        return f"{{{self.name or 'any'}}}" if self.name or not self.accepts("") else ""


@dataclass(frozen=True)
class PathTemplate:
    """A route's path, in one form for all frameworks.

    Args:
        parts: Literal text and parameters, in their order.
    """

    parts: tuple[str | Parameter, ...] = ()

    @classmethod
    def parse(
        cls,
        text: str,
        variable: re.Pattern[str],
        parameter: Callable[[re.Match[str]], Parameter],
    ) -> PathTemplate:
        """Return the template that a framework writes as `text`.

        Args:
            text: The path, in the framework's syntax.
            variable: Matches a variable in it.
            parameter: Returns the parameter for such a match.
        """
        parts: list[str | Parameter] = []
        end = 0
        for match in variable.finditer(text):
            parts += [text[end : match.start()], parameter(match)]
            end = match.end()
        return cls((*parts, text[end:]))

    def __add__(self, other: PathTemplate) -> PathTemplate:
        """Return the template of a path below this one."""
        return PathTemplate(self.parts + other.parts)

    def __str__(self) -> str:
        """Return it with `{x}` for one segment, and `{x:path}` for several."""
        return "".join(map(str, self.parts))

    def accepts(self, path: str) -> bool:
        """Return whether the router leads a path to this route, other routes aside."""
        return self._pattern.fullmatch(path) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        regexes = (
            # A name may occur once in a pattern, and in several parts.
            re.escape(part) if isinstance(part, str) else re.sub(r"\?P<\w+>", "?:", part.regex)
            for part in self.parts
        )
        pattern = "".join(f"(?:{regex})" for regex in regexes)
        return re.compile(pattern, re.IGNORECASE | re.DOTALL)

    @cached_property
    def examples(self) -> tuple[str, ...]:
        """Paths of the route: a first one, and more in which one parameter differs.

        Empty if no value of a parameter was found.
        """
        values = [[part] if isinstance(part, str) else part.values for part in self.parts]
        if not all(values):
            return ()
        first = [kinds[0] for kinds in values]
        paths = ["".join(first)]
        for index, kinds in enumerate(values):
            paths += ["".join((*first[:index], v, *first[index + 1 :])) for v in kinds[1:]]
        return tuple(path for path in paths if "//" not in path)


class Gate(NamedTuple):
    """A guard in front of a route.

    Attributes:
        guard: The guard.
        mount: The path at which its middleware is mounted; empty around the whole application.
    """

    guard: Guard
    mount: str


class Route(NamedTuple):
    """What an application serves.

    Attributes:
        methods: The methods that the endpoint answers; None for every method.
        path: The path's template.
        endpoint: The function, class or application that is called; None if unknown.
        websocket: Whether it is a websocket, whose handshake is a GET.
        opaque: Why the paths behind it cannot be read; empty if they can.
        gates: The guards that requests pass, from the outermost.
        definition: The framework's own object for the route, if a reader has one.
        needs_login: Whether only users who passed the login of Django's admin reach it.
    """

    methods: frozenset[str] | None
    path: PathTemplate
    endpoint: object
    websocket: bool = False
    opaque: str = ""
    gates: tuple[Gate, ...] = ()
    definition: object = None
    needs_login: bool = False


class Mounted(NamedTuple):
    """An application below a path of another one.

    Attributes:
        path: The path, without a final slash.
        app: The application, with or without middlewares around it.
    """

    path: PathTemplate
    app: object
