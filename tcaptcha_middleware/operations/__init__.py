"""What an operator sees and may do: events, the kill switch, and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tcaptcha_middleware.models import Refuse, value
from tcaptcha_middleware.operations.log import logger

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Decision


@value
class Event:
    """One decision, or one change of what is known of a verifier's service. Has no secret.

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
        """Return the event for `decision`."""
        if isinstance(decision, Refuse):
            return cls(decision.rule, "refused", decision.reason, decision, seconds)
        if decision.unchecked is not None:
            return cls(decision.rule, "unchecked", decision.unchecked, decision, seconds)
        return cls(decision.rule, "passed", "", decision, seconds)


class Switch:
    """The kill switch: turn a guard off and on again in this process, at run time.

    A guard has one as `guard.switch`; one may be shared by several guards. Whatever is let
    through meanwhile is marked and counted as `switched_off`.

    Attributes:
        is_off: Whether everyone is let through; set by `off` and `on`.
    """

    def __init__(self) -> None:
        self.is_off: bool = False

    def off(self, why: str) -> None:
        """Let everyone through from now on.

        Args:
            why: For the log.
        """
        self.is_off = True
        logger.critical("the captcha is switched OFF, nothing is checked: %s", why)

    def on(self) -> None:
        """Check again."""
        self.is_off = False
        logger.critical("the captcha is switched on again")
