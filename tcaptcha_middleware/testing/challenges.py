"""The emulator's challenges: what pages said of them, and how each goes. No I/O.

What draws them in the browser is `TencentCaptcha.js`.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.testing.aid import Aid
from tcaptcha_middleware.testing.emulator._control import check_challenge, check_said

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tcaptcha_middleware.testing.aid import AidCheck

_REMEMBERED = 10_000

# What Tencent's own script makes of a configuration that it does not get.
_NO_CONFIGURATION = 1006

# https://cloud.tencent.com/document/product/1110/72310; of the others the text is not known.
_MESSAGES = {1001: "jsload_error", _NO_CONFIGURATION: "get_captcha_config_request_error"}


class Challenges:
    """Every challenge that is asked for, and the steps to come. Not for two threads at once.

    Args:
        checks: By CaptchaAppId, what checks `aidEncrypted`; None where the captcha does not
            insist on it.
        mint: Makes a ticket of what is said of it.

    Attributes:
        said: What the last 10,000 pages said, in order.
    """

    def __init__(
        self, checks: Mapping[int, AidCheck | None], mint: Callable[..., dict[str, str]]
    ) -> None:
        self._checks = {str(app_id): check for app_id, check in checks.items()}
        self._mint = mint
        self._steps: deque[dict[str, Any]] = deque()
        self.said: list[dict[str, Any]] = []

    def script(self, *steps: dict[str, Any]) -> None:
        """Say how the next ones go; see `TencentEmulator.challenge`."""
        self._steps.extend([check_challenge(step) for step in steps])

    def answer(self, told: object, now: float) -> tuple[dict[str, Any], float]:
        """Return how the challenge goes that a page asks for, and how long that takes.

        Args:
            told: What the page said.
            now: Unix seconds.

        Raises:
            TypeError: No dict, or another word than those of `TencentCaptcha.js`.
            ValueError: A value that does not fit its word.
        """
        said = check_said(told)
        self.said.append(said)
        del self.said[:-_REMEMBERED]
        try:
            self._admit(said, now)
        except ValueError as error:
            return _failed(_NO_CONFIGURATION, str(error)), 0
        step = self._steps.popleft() if self._steps else {}
        return self._go(step, int(said["appId"])), step.get("latency", 0)

    def _admit(self, said: dict[str, Any], now: float) -> None:
        # How Tencent turns away another's app id or a bad aidEncrypted is not known: here it
        # is the failure that a page has to expect before anything is drawn.
        if said["appId"] not in self._checks:
            known = " or ".join(self._checks)
            raise ValueError(f"the emulator's captcha is {known}, not {said['appId']}")
        check = self._checks[said["appId"]]
        if check is not None:
            check.check(_aid(said["options"]), now)

    def _go(self, step: dict[str, Any], app_id: int) -> dict[str, Any]:
        if "error" in step:
            return _failed(step["error"], "as scripted")
        if "close" in step or "hang" in step:
            return {"outcome": "close" if "close" in step else "hang"}
        # Minted now and not when it is solved: one answer holds all that the page needs.
        pair = self._mint(**{"app_id": app_id} | step.get("ticket", {}))
        sid = str(secrets.randbelow(10**19))
        return {"outcome": "skip" if "skip" in step else "solve", "sid": sid, **pair}


def _aid(options: dict[str, Any]) -> Aid:
    return Aid(
        text=str(options.get("aidEncrypted") or ""),
        kind=str(options.get("aidEncryptedType") or "cbc"),
        aad=str(options.get("aidEncryptedAad") or ""),
    )


def _failed(code: int, reason: str) -> dict[str, Any]:
    message = _MESSAGES.get(code, "error")
    return {"outcome": "error", "errorCode": code, "errorMessage": f"{message} ({reason})"}
