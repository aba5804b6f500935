"""The emulator's half that browsers see, and how its user says what they see of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.testing.challenges import Challenges
from tcaptcha_middleware.testing.emulator._http import in_json
from tcaptcha_middleware.testing.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tcaptcha_middleware.testing.aid import AidCheck
    from tcaptcha_middleware.testing.emulator._http import Answer


class Pages:
    """Serve pages the stand-in for Tencent's script, and the challenges that it asks for.

    Args:
        checks: By CaptchaAppId, what checks `aidEncrypted`; None where the captcha does not
            insist on it.
        mint: Makes a ticket of what is said of it.
        clock: Tells the time in Unix seconds.

    Attributes:
        challenges: What the last 10,000 pages said that asked for a challenge, in order:
            `script` (its file), `appId` and `options`.
    """

    def __init__(
        self,
        *,
        checks: Mapping[int, AidCheck | None],
        mint: Callable[..., dict[str, str]],
        clock: Callable[[], float],
    ) -> None:
        self._challenges = Challenges(checks, mint)
        self._script = Script()
        self._clock = clock
        self.challenges: list[dict[str, Any]] = self._challenges.said

    def challenge(self, *steps: dict[str, Any]) -> None:
        """Say how the next challenges go in browsers; after the last, visitors may solve them.

        Args:
            steps: One of `ticket` (a dict of what `mint` takes, for the ticket that solving it
                gives), `close` (true: as if the visitor closed it), `error` (1001 to 1013: it
                fails, with a disaster ticket) and `hang` (true: it never ends); and any of
                `skip` (true: it is solved without being shown) and `latency` (seconds before
                it goes on).

        Raises:
            TypeError: No dict, or another word than these.
            ValueError: A value that does not fit its word, or two ends of one challenge.
        """
        self._challenges.script(*steps)

    def load(self, *steps: dict[str, Any]) -> None:
        """Say how the next loads of the stand-in's script go; after the last, they succeed.

        Args:
            steps: One of `status` (an HTTP status, with an HTML body), `broken` (true: half a
                script) and `throw` ("constructor" or "show": the first call of it throws); and
                `latency` (seconds before the answer).

        Raises:
            TypeError: No dict, or another word than these.
            ValueError: A value that does not fit its word, or two failures of one load.
        """
        self._script.script(*steps)

    def _answer_load(self, method: str) -> Answer:
        return self._script.answer(method)

    def _answer_challenge(self, told: object) -> Answer:
        goes, latency = self._challenges.answer(told, self._clock())
        return in_json(200, goes)._replace(latency=latency)
