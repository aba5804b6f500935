"""The emulator's tickets: how they are made and kept, and how calls about them are answered.

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

LIFETIME = 5 * 60
"""How long a ticket is good for, in seconds."""

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
class Minted:
    """One ticket and what will be said of it."""

    action: Action
    randstr: str
    app_id: int
    minted_at: float
    fetched_at: float
    code: int
    evil_level: int
    score: int | None
    spent: bool = False


class Ledger:
    """Every ticket that is out, and how each is answered. Not for two threads at once.

    Args:
        captcha: The captcha whose tickets these are, where nothing else is said.
        more: Further ones.
    """

    def __init__(self, captcha: Captcha, *more: Captcha) -> None:
        self._app_id = captcha.app_id
        self._secrets = {one.app_id: one.app_secret_key for one in (captcha, *more)}
        self._minted: OrderedDict[str, Minted] = OrderedDict()

    def mint(  # noqa: PLR0913  a ticket is made of these
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
        self._forget(now)
        ticket = f"tr03{secrets.token_urlsafe(96)}*"
        randstr = f"@{secrets.token_hex(2)[:3]}"
        action = _KINDS[kind]
        self._minted[ticket] = Minted(
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
        return pair if action.needs_randstr else {"ticket": ticket}

    def _forget(self, now: float) -> None:
        # The oldest stand first. Those that expired lately are kept, to be told of as such.
        while self._minted:
            ticket, minted = self._minted.popitem(last=False)
            if minted.minted_at >= now - 2 * LIFETIME:
                self._minted[ticket] = minted
                self._minted.move_to_end(ticket, last=False)
                return

    def play(self, call: Call, now: float, scripted: int | None = None) -> dict[str, Any]:
        """Return the answer to a call; `scripted` wins over the ticket's code."""
        minted = self._minted.get(call.asked["Ticket"])
        return play(call, minted, self._secrets, now, scripted)


def play(
    call: Call,
    minted: Minted | None,
    keys: Mapping[int, str],
    now: float,
    scripted: int | None = None,
) -> dict[str, Any]:
    """Return the answer to a call.

    Args:
        call: The call.
        minted: The ticket that it is about; None where nobody made it.
        keys: AppSecretKey of each captcha, by its CaptchaAppId.
        now: Unix seconds.
        scripted: A code that is answered whatever the ticket is.
    """
    known = minted if minted is not None and minted.action is call.action else None
    is_web = call.action is WEB
    code = scripted
    if code is None:
        code = (_web_code if is_web else _mini_code)(call.asked, known, keys, now)
    return _web_answer(code, known, call.asked) if is_web else _mini_answer(code)


def _web_code(
    asked: Mapping[str, Any], minted: Minted | None, keys: Mapping[int, str], now: float
) -> int:
    if not _is_plausible(asked):
        return 15
    if not _is_authentic(asked, keys):
        return 100
    if is_disaster(asked["Ticket"]):
        return _disaster_code(asked)
    if minted is None:
        return 15
    return _minted_code(minted, asked, now)


def _mini_code(
    asked: Mapping[str, Any], minted: Minted | None, keys: Mapping[int, str], now: float
) -> int:
    if asked["CaptchaAppId"] not in keys:
        return 16
    if not (_is_authentic(asked, keys) and _is_plausible(asked)):
        return 100
    if is_disaster(asked["Ticket"]):
        return 21
    if minted is None:
        return 15 if _TICKET.fullmatch(asked["Ticket"]) else 10
    return _mini_minted_code(minted, asked, now)


def _is_authentic(asked: Mapping[str, Any], keys: Mapping[int, str]) -> bool:
    return bool(keys.get(asked["CaptchaAppId"]) == asked["AppSecretKey"])


def _disaster_code(asked: Mapping[str, Any]) -> int:
    standard = _STANDARD_DISASTER.fullmatch(asked["Ticket"])
    return 21 if standard and int(standard[1]) == asked["CaptchaAppId"] else 16


def _minted_code(minted: Minted, asked: Mapping[str, Any], now: float) -> int:
    if minted.app_id != asked["CaptchaAppId"]:
        return 16
    if minted.randstr != asked["Randstr"]:
        return 7
    if now - minted.fetched_at > LIFETIME:
        return 8
    if minted.spent:
        return 9
    minted.spent = True
    return minted.code


def _mini_minted_code(minted: Minted, asked: Mapping[str, Any], now: float) -> int:
    if minted.app_id != asked["CaptchaAppId"]:
        return 7
    # Never spent: no code for a second use is documented, and to be lax is to be the worst.
    return 8 if now - minted.fetched_at > LIFETIME else minted.code


def _web_answer(code: int, minted: Minted | None, asked: Mapping[str, Any]) -> dict[str, Any]:
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


def _mini_answer(code: int) -> dict[str, Any]:
    return {"CaptchaCode": code, "CaptchaMsg": _MINI_MESSAGES.get(code, "not valid")}


def _is_plausible(asked: Mapping[str, Any]) -> bool:
    return asked["CaptchaType"] == CAPTCHA_TYPE and _is_address(asked["UserIp"])


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text))
    except ValueError:
        return False
