"""The pair of ticket and randstr, and the checks that need no call to Tencent.

Pure values; this module does not know where in a request they were found.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.tencent.disaster import is_disaster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


Pair = tuple[str, str]

# Tencent documents neither alphabet nor length. Observed are letters, digits, "_-*@" and about
# 150 characters; these patterns reject only what cannot be a ticket.
_TICKET = re.compile(r"[!-~]{1,8192}")
# Empty if the ticket needs none; if it needs one, an empty one counts as missing.
_RANDSTR = re.compile(r"[!-~]{0,1024}")
_ORDINARY = re.compile(r"(?!(?i:tr?error))[!-~]{1,8192}\n[!-~]{0,1024}")
# For nearly every pair, with a line break between its two values; `screen` has the rest.
is_ordinary: Callable[[str], re.Match[str] | None] = _ORDINARY.fullmatch


class Invalid(Enum):
    """Why a value that was sent cannot be used. Not a string, so no client can send it."""

    AMBIGUOUS = "two different values"
    NOT_TEXT = "a value that is not text"


Value = str | Invalid | None
"""A ticket or a randstr: its text, what is wrong with it, or None if it is missing."""


def combine(values: Iterable[object]) -> Value:
    """Return the single value that was sent, or what is wrong.

    Args:
        values: Texts; None and empty texts count as not filled in, anything else is not text.
    """
    combined: Value = None
    for value in values:
        sent = value if value is None or isinstance(value, str) else Invalid.NOT_TEXT
        combined = _agreed(combined, sent)
    return combined


def _agreed(value: Value, other: Value) -> Value:
    if not other or value == other:
        return value
    return Invalid.AMBIGUOUS if value else other


class PartialPair(NamedTuple):
    """What one source, or several, contain of a pair.

    Attributes:
        ticket: The ticket.
        randstr: The randstr; `""` if the ticket needs none.
    """

    ticket: Value = None
    randstr: Value = None

    def combined(self, other: PartialPair) -> PartialPair:
        """Return both together; values that differ are ambiguous, and empty ones missing."""
        return PartialPair(
            _agreed(self.ticket, other.ticket), _agreed(self.randstr, other.randstr)
        )

    def __repr__(self) -> str:
        """Describe both values without their text, which is a secret until it is spent."""
        ticket, randstr = (
            "missing" if value is None else getattr(value, "value", "sent") for value in self
        )
        return f"ticket: {ticket}, randstr: {randstr}"

    @property
    def complete(self) -> bool:
        """Whether neither value is missing."""
        return self.ticket is not None and self.randstr is not None

    def pair(self) -> Pair | Reason:
        """Return the pair, or the reason to refuse it."""
        ticket, randstr = self
        if isinstance(ticket, str) and isinstance(randstr, str):
            return ticket, randstr
        if Invalid.AMBIGUOUS in self:
            return Reason.TICKET_AMBIGUOUS
        return Reason.TICKET_MALFORMED if self.complete else Reason.TICKET_MISSING


NOTHING = PartialPair()


def screen(pair: Pair) -> Reason | None:
    """Return why a pair is not worth a call, or None."""
    ticket, randstr = pair
    if not (_TICKET.fullmatch(ticket) and _RANDSTR.fullmatch(randstr)):
        return Reason.TICKET_MALFORMED
    return Reason.DISASTER_TICKET if is_disaster(ticket) else None
