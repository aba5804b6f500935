"""`Finding`: what is known of one route, rule or page path after a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["covered", "partly", "open", "uncovered", "opaque", "dead", "shadowed"]

_ATTENTION = frozenset({"partly", "open", "dead", "shadowed"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check.

    Args:
        status: `"covered"`; `"partly"`, if a rule covers some of the requests only; `"open"`,
            if no rule covers a route that looks sensitive; `"uncovered"`, for any other route
            without a rule; `"opaque"`, if the paths behind it cannot be read; `"dead"`, for a
            rule that matches no route; `"shadowed"`, for a page path that is a route too.
        methods: The methods, sorted; empty for every method, as in a rule text. `"WEBSOCKET"`
            for a websocket.
        path: The path, with `{x}` for one segment and `{x:path}` for several.
        rule: The names of the rules that cover it, or the name of the dead rule.
        detail: What is not covered, what is exempt, or what may have been meant.
    """

    status: Status
    methods: tuple[str, ...]
    path: str
    rule: str = ""
    detail: str = ""

    def __str__(self) -> str:
        """Return methods and path, as a rule text has them and as `accept` names them."""
        return f"{','.join(self.methods)} {self.path}".strip()

    @property
    def needs_attention(self) -> bool:
        """Whether the status is `partly`, `open`, `dead` or `shadowed`."""
        return self.status in _ATTENTION
