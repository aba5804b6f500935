"""Tencent's two actions that verify a ticket, and what each of their codes means. No I/O.

Tickets of one action are not valid for the other.

https://cloud.tencent.com/document/product/1110/36926
https://cloud.tencent.com/document/product/1302/48499
https://cloud.tencent.com/document/product/1110/84005
https://www.tencentcloud.com/document/product/1159/50367
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import (
    MisconfiguredError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.models import PASSED_CODE, Codes, Reason

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Outcome, Verdict

_OUTAGE = 26


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """How tickets of one kind are verified.

    Attributes:
        name: Tencent's name for it.
        without: Parameters of DescribeCaptchaResult that it rejects.
        sites: Which of Tencent's two services have it.
        has_randstr: Whether a ticket is valid only with its randstr.
        refuses_reuse: Whether Tencent is known to refuse a ticket's second use; if not, only
            the replay store stops it.
        codes: The meaning of the answer's `CaptchaCode`.
    """

    name: str
    without: tuple[str, ...]
    sites: tuple[str, ...]
    has_randstr: bool
    refuses_reuse: bool
    codes: Codes = field(repr=False)


# Some are from older lists and may still occur.
_WEB_OUTCOMES: dict[int, Outcome] = {
    6: "rejected",
    7: "rejected",  # captcha no match: randstr is not this ticket's
    8: "expired",  # older than five minutes
    9: "reused",
    10: "rejected",
    11: "rejected",
    12: "rejected",
    13: "rejected",  # verify ip no match
    15: "rejected",  # decrypt fail: not authentic
    17: "rejected",
    18: "rejected",
    19: "rejected",
    20: "rejected",
    21: "risk",  # the risk engine, except for disaster tickets
    22: "rejected",
    23: "rejected",
    24: "rejected",
    25: "risk",  # bad visitor
}
_NO_PACKAGE = "the account has no captcha package, or owes money"
_WEB_MISCONFIGURED = {
    16: "the ticket is of another captcha than app_id",
    31: _NO_PACKAGE,
    100: "app_id and app_secret_key do not belong together, or not to the ticket",
}

_MINI_OUTCOMES: dict[int, Outcome] = {
    8: "expired",
    10: "rejected",  # format error
    15: "rejected",  # decrypt failed
    21: "rejected",  # ticket error, except for disaster tickets
    25: "rejected",  # invalid ticket
}
_MINI_MISCONFIGURED = {
    7: "the ticket is of another captcha than app_id",
    16: "app_id is wrong",
    31: _NO_PACKAGE,
    100: "a parameter is wrong; check app_id and app_secret_key",
}

WEB = Action(
    name="DescribeCaptchaResult",
    without=(),
    sites=("cn", "intl"),
    has_randstr=True,
    refuses_reuse=True,
    codes=Codes(_WEB_OUTCOMES, _WEB_MISCONFIGURED),
)
"""For web pages and apps."""

MINI_PROGRAM = Action(
    name="DescribeCaptchaMiniResult",
    without=("Randstr", "NeedGetCaptchaTime"),
    sites=("cn",),
    has_randstr=False,
    refuses_reuse=False,
    codes=Codes(_MINI_OUTCOMES, _MINI_MISCONFIGURED),
)
"""For WeChat mini-programs, on the domestic site. Its code 7 differs, and none is for reuse."""

_REASONS = {
    "passed": Reason.RISK_DENIED,  # but malicious
    "rejected": Reason.TICKET_REJECTED,
    "expired": Reason.TICKET_EXPIRED,
    "reused": Reason.TICKET_REUSED,
    "risk": Reason.RISK_DENIED,
}


def outcome_of(code: int, codes: Codes, *, resent: bool) -> Outcome | None:
    """Return what the code of a verdict that did not pass says about the ticket.

    None if it is not about the ticket.
    """
    if code == PASSED_CODE:
        return "risk"
    outcome = codes.outcomes.get(code)
    # The first of the two calls may have spent the ticket, so this proves no replay.
    return "expired" if outcome == "reused" and resent else outcome


def refusal(verdict: Verdict, codes: Codes | None = None) -> Reason:
    """Return why a verdict that did not pass refuses its ticket.

    Args:
        verdict: The verdict; its outcome decides, or its code if it has none.
        codes: The meaning of the code; by default that of a web ticket.

    Raises:
        OutageError: If the code is 26, Tencent's own failure.
        MisconfiguredError: If only the operator can fix what the code means, or the outcome
            is unknown.
        VerifierError: If the code is unknown, so it is not a verdict.
    """
    codes = WEB.codes if codes is None else codes
    outcome = verdict.outcome
    if outcome is None:
        outcome = outcome_of(verdict.code, codes, resent=verdict.resent)
    if outcome in _REASONS:
        return _REASONS[outcome]
    if outcome is not None:
        known = ", ".join(_REASONS)
        raise MisconfiguredError(f"the verdict's outcome is {outcome!r}: use one of {known}")
    code, request_id = verdict.code, verdict.request_id
    if code == _OUTAGE:
        raise OutageError("Tencent is busy (CaptchaCode 26)", request_id=request_id)
    if code in codes.misconfigured:
        message = f"CaptchaCode {code}: {codes.misconfigured[code]}"
        raise MisconfiguredError(message, request_id=request_id)
    message = f"CaptchaCode {code!r} is in no table of Tencent's"
    raise VerifierError(message, request_id=request_id)


_CODE = re.compile(r"[A-Za-z0-9.]{1,128}")
# By the first word of the API error's code. Unlisted errors are not verdicts and never fail
# open. Tencent's page on disasters (1110/72310) counts only InternalError as its own fault.
_API_ERRORS: dict[str, type[VerifierError]] = {
    "InternalError": OutageError,
    "RequestLimitExceeded": ThrottledError,
    "LimitExceeded": ThrottledError,
    "ActionOffline": MisconfiguredError,
    "AuthFailure": MisconfiguredError,
    "InvalidAction": MisconfiguredError,
    "InvalidParameter": MisconfiguredError,
    "InvalidParameterValue": MisconfiguredError,
    "InvalidRequest": MisconfiguredError,
    "IpInBlacklist": MisconfiguredError,
    "IpNotInWhitelist": MisconfiguredError,
    "MissingParameter": MisconfiguredError,
    "NoSuchProduct": MisconfiguredError,
    "NoSuchVersion": MisconfiguredError,
    "UnauthorizedOperation": MisconfiguredError,
    "UnknownParameter": MisconfiguredError,
    "UnsupportedOperation": MisconfiguredError,
    "UnsupportedProtocol": MisconfiguredError,
    "UnsupportedRegion": MisconfiguredError,
}
_FORBIDDEN = (
    "the API key may not call captcha:DescribeCaptchaResult (for mini-programs "
    "captcha:DescribeCaptchaMiniResult)"
)
# What to look at first, by the longest known prefix of the code.
_ADVICE = {
    "AuthFailure.SecretIdNotFound": "secret_id is unknown there; is site= the right one, and "
    "is it the API key's SecretId rather than the captcha's id?",
    "AuthFailure.SignatureFailure": "secret_key does not belong to secret_id",
    "AuthFailure.SignatureExpire": "this machine's clock is more than five minutes off",
    "AuthFailure.TokenFailure": "the token of the temporary key is wrong or has expired",
    "AuthFailure.UnauthorizedOperation": _FORBIDDEN,
    "AuthFailure": "check secret_id, secret_key and the token",
    "UnauthorizedOperation.Unauthorized": _NO_PACKAGE,
    "UnauthorizedOperation": _FORBIDDEN,
    "InvalidParameter": "check app_id and app_secret_key",
}


def api_error(error: object, request_id: str) -> VerifierError:
    """Return the error for an API failure `{"Code": …, "Message": …}`."""
    code = error.get("Code") if isinstance(error, dict) else None
    # It is logged, and other text could imitate log lines.
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return VerifierError(
            "Tencent's error has no code", request_id=request_id, answered=False
        )
    kind = _API_ERRORS.get(code.partition(".")[0], VerifierError)
    known = [start for start in _ADVICE if code.startswith(start)]
    advice = f": {_ADVICE[max(known, key=len)]}" if known else ""
    return kind(f"Tencent answered {code}{advice}", request_id=request_id)
