"""What an operator can count and search: one event for every decision, without a secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tcaptcha_middleware.models import Refuse

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Decision


@dataclass(frozen=True, slots=True)
class Event:
    """One decision.

    Attributes:
        rule: The name of the rule that covered the request; one of few, fit for a label.
        outcome: `"passed"`, `"unchecked"` or `"refused"`.
        reason: Why it was refused or left unchecked; `""` where it passed.
        decision: The decision itself, with the verdict and Tencent's `RequestId`.
        seconds: How long the walk took, the client's sending and Tencent included.
    """

    rule: str
    outcome: Literal["passed", "unchecked", "refused"]
    reason: str
    decision: Decision
    seconds: float

    @classmethod
    def of(cls, decision: Decision, seconds: float) -> Event:
        """Return the event that tells of `decision`."""
        if isinstance(decision, Refuse):
            return cls(decision.rule, "refused", decision.reason, decision, seconds)
        if decision.unchecked is not None:
            return cls(decision.rule, "unchecked", decision.unchecked, decision, seconds)
        return cls(decision.rule, "passed", "", decision, seconds)
