"""A verifier with scripted outcomes, for tests."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import OutageError
from tcaptcha_middleware.models import PASSED_CODE, CaptchaInfo, Verdict
from tcaptcha_middleware.tencent.actions import WEB
from tcaptcha_middleware.tencent.sites import SITES

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Submission
    from tcaptcha_middleware.tencent.actions import Action

Outcome = Verdict | int | Exception


class FakeVerifier:
    """Returns scripted outcomes and records the tickets, for sync and async code.

    Args:
        outcomes: One for each call: a `Verdict`, a `CaptchaCode`, or an exception to raise,
            such as `OutageError("down")`. The last one repeats. Without any, every ticket
            passes.
        action: The kind of tickets; for mini-programs `MINI_PROGRAM` from
            `tcaptcha_middleware.tencent.actions`.

    Attributes:
        captcha: A made-up CaptchaAppId, and Tencent's script for the domestic site.
        tickets: All tickets, in order.
        is_up: If the service answers. While False, verifications and probes raise
            `OutageError`.

    Example:
        ``guard = Guard(["POST /login"], FakeVerifier(1, 9))`` lets the first request pass and
        refuses the others as reused.
    """

    def __init__(self, *outcomes: Outcome, action: Action = WEB) -> None:
        self.captcha: CaptchaInfo = CaptchaInfo(
            190000000,
            script=SITES["cn"].script,
            has_randstr=action.has_randstr,
            refuses_reuse=action.refuses_reuse,
            codes=action.codes,
        )
        self._outcomes: list[Outcome] = list(outcomes) or [PASSED_CODE]
        for outcome in self._outcomes:
            if isinstance(outcome, bool) or not isinstance(outcome, (Verdict, int, Exception)):
                wanted = "a Verdict, a CaptchaCode or an exception"
                raise TypeError(f"an outcome must be {wanted}, got {outcome!r}")
        self._turns = count()
        self.tickets: list[Submission] = []
        self.is_up: bool = True

    def verify(self, ticket: Submission) -> Verdict:
        """Record `ticket`, and return or raise the next outcome."""
        self.tickets.append(ticket)
        self.probe()
        # next() on a count is atomic: a server's threads may call at the same time.
        outcome = self._outcomes[min(next(self._turns), len(self._outcomes) - 1)]
        if isinstance(outcome, Exception):
            # Each raise of the same exception adds to its traceback.
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
