"""What makes a pair: one ticket and one randstr, of a shape that is worth a call.

Pure values; knows nothing of where in a request they stood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.tencent.disaster import is_disaster

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Ticket

Pair = tuple[str, str]

# Tencent documents neither alphabet nor length. Seen are letters, digits, "_-*@" and some
# 150 characters; a wider net keeps out only what cannot be a ticket.
_TICKET = re.compile(r"[!-~]{1,8192}")
_RANDSTR = re.compile(r"[!-~]{1,1024}")
_UNFILLED = (None, "")


@dataclass(slots=True)
class Seen:
    """Every value met so far for each half of a pair, from one source or several.

    A value that is no text (a JSON number, a list) is kept as it is, to be refused.

    Attributes:
        tickets: The tickets.
        randstrs: The randstrs.
        needs_randstr: Whether a ticket is good only with its randstr; where it is not, nobody
            looks at the randstrs, which then can neither help nor hurt.
    """

    tickets: list[object] = field(default_factory=list)
    randstrs: list[object] = field(default_factory=list)
    needs_randstr: bool = True

    def add(self, other: Seen) -> None:
        """Take in what another source has."""
        self.tickets += other.tickets
        self.randstrs += other.randstrs

    @property
    def is_empty(self) -> bool:
        """Whether neither half was met."""
        return not (self.tickets or self.randstrs)

    @property
    def complete(self) -> bool:
        """Whether every half was met. An empty one counts as not filled in."""
        randstr = not self.needs_randstr or _distinct(self.randstrs)
        return bool(randstr and _distinct(self.tickets))

    @property
    def ambiguous(self) -> bool:
        """Whether one half was met with two different values."""
        randstrs = self.needs_randstr and len(_distinct(self.randstrs)) > 1
        return randstrs or len(_distinct(self.tickets)) > 1

    def pair(self) -> Pair | Reason:
        """Return the pair of halves that are complete, or why they are none.

        A randstr that is not needed is `""`, whatever was sent.
        """
        ticket = _distinct(self.tickets)[0]
        randstr = _distinct(self.randstrs)[0] if self.needs_randstr else ""
        if isinstance(ticket, str) and isinstance(randstr, str):
            return ticket, randstr
        return Reason.TICKET_MALFORMED


def _distinct(values: list[object]) -> list[object]:
    """Return the first value, and the first that differs; a body may hold thousands."""
    if len(values) == 1 and values[0] not in _UNFILLED:
        return values
    filled = [value for value in values if value not in _UNFILLED]
    if len(filled) <= 1:
        return filled
    return filled[:1] + [value for value in filled if value != filled[0]][:1]


def screen(ticket: Ticket, *, needs_randstr: bool = True) -> Reason | None:
    """Return why the ticket is not worth a call, or None."""
    if not _TICKET.fullmatch(ticket.ticket):
        return Reason.TICKET_MALFORMED
    if needs_randstr and not _RANDSTR.fullmatch(ticket.randstr):
        return Reason.TICKET_MALFORMED
    return Reason.DISASTER_TICKET if is_disaster(ticket.ticket) else None
