"""The emulator's tickets: minted, then played by the rules that Tencent documents. No I/O.

https://cloud.tencent.com/document/product/1110/84005
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.disaster import is_disaster
from tcaptcha_middleware.models import PASSED_CODE
from tcaptcha_middleware.tencent import CAPTCHA_TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

LIFETIME = 5 * 60
"""How long a ticket is good for, in seconds."""

_MESSAGES = {
    1: "OK",
    7: "captcha no match",
    8: "ticket expired",
    9: "ticket reused",
    15: "decrypt fail",
    16: "appid-ticket mismatch",
    21: "diff",
    26: "system busy",
    100: "appid-secretkey-ticket mismatch",
}
_STANDARD_DISASTER = re.compile(r"tr?error_[0-9]{3,5}_([0-9]{1,20})_[0-9]{9,11}")


@dataclass(slots=True)
class Minted:
    """One ticket and what will be said of it."""

    randstr: str
    app_id: int
    minted_at: float
    fetched_at: float
    code: int
    evil_level: int
    score: int | None
    spent: bool = field(default=False)


class Ledger:
    """Every ticket that is out, and how each is answered. Not for two threads at once.

    Args:
        app_id: The captcha whose tickets these are.
        app_secret_key: What a caller has to know to have them checked.
    """

    def __init__(self, app_id: int, app_secret_key: str) -> None:
        self._app_id = app_id
        self._app_secret_key = app_secret_key
        self._minted: OrderedDict[str, Minted] = OrderedDict()

    def mint(  # noqa: PLR0913  a ticket is made of these
        self,
        now: float,
        *,
        code: int = PASSED_CODE,
        evil_level: int = 0,
        score: int | None = None,
        age: float = 0,
        app_id: int | None = None,
    ) -> dict[str, str]:
        """Make a ticket; see `TencentEmulator.mint`."""
        self._forget(now)
        ticket = f"tr03{secrets.token_urlsafe(96)}*"
        randstr = f"@{secrets.token_hex(2)[:3]}"
        self._minted[ticket] = Minted(
            randstr=randstr,
            app_id=self._app_id if app_id is None else app_id,
            minted_at=now,
            fetched_at=now - age,
            code=code,
            evil_level=evil_level,
            score=score,
        )
        return {"ticket": ticket, "randstr": randstr}

    def _forget(self, now: float) -> None:
        # The oldest stand first. Those that expired lately are kept, to be told of as such.
        while self._minted:
            ticket, minted = self._minted.popitem(last=False)
            if minted.minted_at >= now - 2 * LIFETIME:
                self._minted[ticket] = minted
                self._minted.move_to_end(ticket, last=False)
                return

    def play(
        self, asked: Mapping[str, Any], now: float, scripted: int | None = None
    ) -> dict[str, Any]:
        """Return the answer to a well-formed call; `scripted` wins over the ticket's code."""
        minted = self._minted.get(asked["Ticket"])
        code = self._code(asked, minted, now) if scripted is None else scripted
        passed = minted is not None and code == PASSED_CODE
        fetched_at = int(minted.fetched_at) if minted else 0
        answer: dict[str, Any] = {
            "CaptchaCode": code,
            "CaptchaMsg": _MESSAGES.get(code, "not valid"),
            "EvilLevel": minted.evil_level if minted and passed else 0,
            "GetCaptchaTime": fetched_at if asked.get("NeedGetCaptchaTime") else 0,
            "EvilBitmap": 0,
            "SubmitCaptchaTime": fetched_at,
            "DeviceRiskCategory": None,
        }
        if minted and minted.score is not None:
            answer["Score"] = minted.score
        return answer

    def _code(self, asked: Mapping[str, Any], minted: Minted | None, now: float) -> int:
        if asked["CaptchaType"] != CAPTCHA_TYPE or not _is_address(asked["UserIp"]):
            return 15
        if (asked["CaptchaAppId"], asked["AppSecretKey"]) != (
            self._app_id,
            self._app_secret_key,
        ):
            return 100
        if is_disaster(asked["Ticket"]):
            return self._disaster_code(asked["Ticket"])
        if minted is None:
            return 15
        return self._minted_code(minted, asked["Randstr"], now)

    def _disaster_code(self, ticket: str) -> int:
        standard = _STANDARD_DISASTER.fullmatch(ticket)
        return 21 if standard and int(standard[1]) == self._app_id else 16

    def _minted_code(self, minted: Minted, randstr: str, now: float) -> int:
        if minted.app_id != self._app_id:
            return 16
        if minted.randstr != randstr:
            return 7
        if now - minted.fetched_at > LIFETIME:
            return 8
        if minted.spent:
            return 9
        minted.spent = True
        return minted.code


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False
