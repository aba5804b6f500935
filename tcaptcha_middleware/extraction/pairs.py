"""What makes a pair: one ticket and one randstr, of a shape that is worth a call.

Pure values; knows nothing of where in a request they stood.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.tencent.disaster import is_disaster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tcaptcha_middleware.models import Submission

Pair = tuple[str, str]

# Tencent documents neither alphabet nor length. Seen are letters, digits, "_-*@" and some
# 150 characters; a wider net keeps out only what cannot be a ticket.
_TICKET = re.compile(r"[!-~]{1,8192}")
# Empty where the ticket needs none; where it needs one, an empty one is not filled in.
_RANDSTR = re.compile(r"[!-~]{0,1024}")


class Invalid(Enum):
    """Why a half that was sent is none. Not a text, so that nobody can send it."""

    AMBIGUOUS = "two different values were sent"
    NO_TEXT = "something else than a text was sent"


Half = str | Invalid | None
"""What is known of one half: its text, or what is wrong with it; None where it is missing."""


def half(values: Sequence[object]) -> Half:
    """Return what all values that were sent for one half come to.

    Args:
        values: Texts; None or an empty one counts as not filled in, anything else as no text.
    """
    found: Half = None
    for value in values:
        sent = value if value is None or isinstance(value, str) else Invalid.NO_TEXT
        found = _agreed(found, sent)
    return found


def _agreed(one: Half, other: Half) -> Half:
    if not other or one == other:
        return one
    return Invalid.AMBIGUOUS if one else other


class PartialPair(NamedTuple):
    """What one source, or several, have of a pair.

    Attributes:
        ticket: The ticket.
        randstr: The randstr; `""` where the ticket needs none.
    """

    ticket: Half = None
    randstr: Half = None

    def and_also(self, other: PartialPair) -> PartialPair:
        """Return what both have together; where they disagree, it is ambiguous."""
        if self is NOTHING:
            return other
        return PartialPair(
            _agreed(self.ticket, other.ticket), _agreed(self.randstr, other.randstr)
        )

    @property
    def complete(self) -> bool:
        """Whether neither half is missing."""
        return self.ticket is not None and self.randstr is not None

    def pair(self) -> Pair | Reason:
        """Return the pair, or why there is none."""
        ticket, randstr = self
        if isinstance(ticket, str) and isinstance(randstr, str):
            return ticket, randstr
        if Invalid.AMBIGUOUS in self:
            return Reason.TICKET_AMBIGUOUS
        return Reason.TICKET_MALFORMED if self.complete else Reason.TICKET_MISSING


NOTHING = PartialPair()


def screen(ticket: Submission) -> Reason | None:
    """Return why the ticket is not worth a call, or None."""
    if not (_TICKET.fullmatch(ticket.ticket) and _RANDSTR.fullmatch(ticket.randstr)):
        return Reason.TICKET_MALFORMED
    return Reason.DISASTER_TICKET if is_disaster(ticket.ticket) else None
