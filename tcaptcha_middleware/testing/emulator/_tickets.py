"""The emulator's tickets: made, kept while they matter, and answered by Tencent's rules.

No I/O.

https://cloud.tencent.com/document/product/1110/84005
https://cloud.tencent.com/document/product/1302/48499
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.models import PASSED_CODE
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.tencent.api import CAPTCHA_TYPE
from tcaptcha_middleware.tencent.disaster import is_disaster

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.tencent.credentials import Captcha
    from tcaptcha_middleware.testing.emulator._calls import Call

_LIFETIME = 5 * 60
"""How long a ticket is valid, in seconds."""

_KINDS = {"web": WEB, "mini": MINI_PROGRAM}
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
_MINI_MESSAGES = {
    1: "OK",
    7: "CaptchaAppId does not match",
    8: "ticket expired",
    10: "ticket format error",
    15: "ticket decryption failed",
    16: "CaptchaAppId wrong format",
    21: "ticket error",
    25: "invalid ticket",
    26: "system internal error",
    31: "UnauthorizedOperation.Unauthorized",
    100: "param err",
}
_TICKET = re.compile(r"[A-Za-z0-9_*-]+")
_STANDARD_DISASTER = re.compile(r"tr?error_[0-9]{3,5}_([0-9]{1,20})_[0-9]{9,11}")


@dataclass(slots=True)
class _Ticket:
    action: Action
    randstr: str
    app_id: int
    minted_at: float
    fetched_at: float
    code: int
    evil_level: int
    score: int | None
    spent: bool = False

    def use(self, parameters: Mapping[str, Any], now: float) -> int:
        """Spend a web ticket if nothing is wrong with it; return its CaptchaCode."""
        if self.app_id != parameters["CaptchaAppId"]:
            return 16
        if self.randstr != parameters["Randstr"]:
            return 7
        if now - self.fetched_at > _LIFETIME:
            return 8
        if self.spent:
            return 9
        self.spent = True
        return self.code


class Tickets:
    """All valid and recently expired tickets. Not thread-safe.

    Args:
        captcha: The captcha that tickets belong to by default.
        more: Further captchas.
    """

    def __init__(self, captcha: Captcha, *more: Captcha) -> None:
        self._app_id = captcha.app_id
        self._secrets = {each.app_id: each.app_secret_key for each in (captcha, *more)}
        self._tickets: OrderedDict[str, _Ticket] = OrderedDict()

    def mint(  # noqa: PLR0913  the properties of a ticket
        self,
        now: float,
        *,
        kind: str = "web",
        code: int = PASSED_CODE,
        evil_level: int = 0,
        score: int | None = None,
        age: float = 0,
        app_id: int | None = None,
    ) -> dict[str, str]:
        """Make a ticket; see `TencentEmulator.mint`."""
        # Oldest first. A ticket is kept after it expires, to be answered as expired.
        while self._tickets:
            oldest = next(iter(self._tickets.values()))
            if oldest.minted_at >= now - 2 * _LIFETIME:
                break
            self._tickets.popitem(last=False)
        ticket = f"tr03{secrets.token_urlsafe(96)}*"
        randstr = f"@{secrets.token_hex(2)[:3]}"
        action = _KINDS[kind]
        self._tickets[ticket] = _Ticket(
            action=action,
            randstr=randstr,
            app_id=self._app_id if app_id is None else app_id,
            minted_at=now,
            fetched_at=now - age,
            code=code,
            evil_level=evil_level,
            score=score,
        )
        pair = {"ticket": ticket, "randstr": randstr}
        return pair if action.has_randstr else {"ticket": ticket}

    def answer(self, call: Call, now: float, code: int | None = None) -> dict[str, Any]:
        """Answer a call.

        Args:
            call: The call.
            now: Unix seconds.
            code: The CaptchaCode to answer regardless of the ticket; the ticket is not spent.
        """
        parameters = call.parameters
        ticket = self._tickets.get(parameters["Ticket"])
        if ticket is not None and ticket.action is not call.action:
            ticket = None
        if code is None:
            get_code = self._web_code if call.action is WEB else self._mini_code
            code = get_code(parameters, ticket, now)
        if call.action is MINI_PROGRAM:
            return {"CaptchaCode": code, "CaptchaMsg": _MINI_MESSAGES.get(code, "not valid")}
        fetched_at = int(ticket.fetched_at) if ticket else 0
        answer = {
            "CaptchaCode": code,
            "CaptchaMsg": _MESSAGES.get(code, "not valid"),
            "EvilLevel": ticket.evil_level if ticket and code == PASSED_CODE else 0,
            "GetCaptchaTime": fetched_at if parameters.get("NeedGetCaptchaTime") else 0,
            "EvilBitmap": 0,
            "SubmitCaptchaTime": fetched_at,
            "DeviceRiskCategory": None,
        }
        return answer | ({"Score": ticket.score} if ticket and ticket.score is not None else {})

    def _web_code(
        self, parameters: Mapping[str, Any], ticket: _Ticket | None, now: float
    ) -> int:
        if not _is_plausible(parameters):
            return 15
        if not self._has_secret(parameters):
            return 100
        if is_disaster(parameters["Ticket"]):
            standard = _STANDARD_DISASTER.fullmatch(parameters["Ticket"])
            return 21 if standard and int(standard[1]) == parameters["CaptchaAppId"] else 16
        return 15 if ticket is None else ticket.use(parameters, now)

    def _mini_code(
        self, parameters: Mapping[str, Any], ticket: _Ticket | None, now: float
    ) -> int:
        if parameters["CaptchaAppId"] not in self._secrets:
            return 16
        if not (self._has_secret(parameters) and _is_plausible(parameters)):
            return 100
        if is_disaster(parameters["Ticket"]):
            return 21
        if ticket is None:
            return 15 if _TICKET.fullmatch(parameters["Ticket"]) else 10
        if ticket.app_id != parameters["CaptchaAppId"]:
            return 7
        # Never spent: Tencent documents no code for a second use, and accepting is the worst
        # case for applications.
        return 8 if now - ticket.fetched_at > _LIFETIME else ticket.code

    def _has_secret(self, parameters: Mapping[str, Any]) -> bool:
        secret = self._secrets.get(parameters["CaptchaAppId"])
        return bool(secret == parameters["AppSecretKey"])


def _is_plausible(parameters: Mapping[str, Any]) -> bool:
    if parameters["CaptchaType"] != CAPTCHA_TYPE:
        return False
    try:
        ip_address(parameters["UserIp"])
    except ValueError:
        return False
    return True
