"""A verifier that says what a test wants it to say."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import OutageError
from tcaptcha_middleware.models import PASSED_CODE, Verdict
from tcaptcha_middleware.tencent.actions import WEB
from tcaptcha_middleware.tencent.api import SITES

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Submission
    from tcaptcha_middleware.tencent.actions import Action

Outcome = Verdict | int | Exception


class FakeVerifier:
    """Say what it was told to say, and remember what it was asked; both colours.

    Args:
        outcomes: What to say, call by call; the last is said for ever after. A `Verdict`, a
            bare `CaptchaCode`, or an exception to raise, such as `OutageError("down")`. With
            none, every ticket passes.
        action: Whose tickets it checks; `MINI_PROGRAM` of
            `tcaptcha_middleware.tencent.actions` for those of mini-programs.

    Attributes:
        app_id: Some CaptchaAppId, and so a guard with a page takes it, too.
        script: Tencent's own script for the domestic site.
        tickets: Every ticket it was asked about, in order.
        is_up: If the service answers. While False, verifications and probes raise
            `OutageError`.

    Example:
        ``guard = Guard(["POST /login"], FakeVerifier(1, 9))`` lets the first request through
        and refuses the others as reused.
    """

    app_id: int = 190000000
    script: str = SITES["cn"].script

    def __init__(self, *outcomes: Outcome, action: Action = WEB) -> None:
        self.action = action
        self._outcomes: list[Outcome] = list(outcomes) or [PASSED_CODE]
        for outcome in self._outcomes:
            if isinstance(outcome, bool) or not isinstance(outcome, (Verdict, int, Exception)):
                raise TypeError(
                    f"an outcome is a Verdict, a CaptchaCode or an exception, not {outcome!r}"
                )
        self._turns = count()
        self.tickets: list[Submission] = []
        self.is_up: bool = True

    def verify(self, ticket: Submission) -> Verdict:
        """Note `ticket`, and return or raise the next outcome."""
        self.tickets.append(ticket)
        self.probe()
        # Counted in one step: a server's threads may ask at the same time.
        outcome = self._outcomes[min(next(self._turns), len(self._outcomes) - 1)]
        if isinstance(outcome, Exception):
            # Raised again and again, it would keep every frame it ever came through.
            raise outcome.with_traceback(None)
        return outcome if isinstance(outcome, Verdict) else Verdict(outcome)

    async def averify(self, ticket: Submission) -> Verdict:
        """Same as `verify`, but awaited."""
        return self.verify(ticket)

    def probe(self, limit: float = 0.0) -> None:  # noqa: ARG002  what verifiers accept
        """Return if the service is up, as the gate's probes do.

        Args:
            limit: Ignored; the answer comes at once.

        Raises:
            OutageError: If `is_up` is False.
        """
        if not self.is_up:
            raise OutageError("the fake service is down")
