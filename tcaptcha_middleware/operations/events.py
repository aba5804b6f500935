"""What an operator can count and search: one event for every decision, without a secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tcaptcha_middleware.models import Refuse

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Decision


@dataclass(frozen=True, slots=True)
class Event:
    """One decision, or one change of what is known of a verifier's service.

    Attributes:
        rule: The rule's name; one of few, fit for the label of a metric.
        outcome: `"passed"`, `"unchecked"` or `"refused"`; `"health"` for a change.
        reason: Why it was refused or left unchecked, `""` if it passed; for a change the new
            state: `"up"`, `"suspect"` or `"down"`.
        decision: The decision, with the verdict and Tencent's `RequestId`; None for a change.
        seconds: How long the decision took, the client's sending and Tencent included.
    """

    rule: str
    outcome: Literal["passed", "unchecked", "refused", "health"]
    reason: str
    decision: Decision | None
    seconds: float

    @classmethod
    def of(cls, decision: Decision, seconds: float) -> Event:
        """Return the event that tells of `decision`."""
        if isinstance(decision, Refuse):
            return cls(decision.rule, "refused", decision.reason, decision, seconds)
        if decision.unchecked is not None:
            return cls(decision.rule, "unchecked", decision.unchecked, decision, seconds)
        return cls(decision.rule, "passed", "", decision, seconds)
