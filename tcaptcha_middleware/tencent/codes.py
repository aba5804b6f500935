"""Tencent's codes: what each means for the visitor, and whose fault it is. No I/O.

https://cloud.tencent.com/document/product/1110/84005
https://www.tencentcloud.com/document/product/1159/50367
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import (
    MisconfiguredError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.models import PASSED_CODE, Reason
from tcaptcha_middleware.tencent.disaster import is_disaster

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.models import Submission, Verdict

_OUTAGE = 26


@dataclass(frozen=True, slots=True, eq=False)
class Codes:
    """The meaning of each `CaptchaCode` of one action, except 1 and 26, which all share.

    Attributes:
        reasons: Codes that are the visitor's fault, and why the request is refused.
        misconfigured: Codes that only the operator can fix, and what to look at.
    """

    reasons: Mapping[int, Reason]
    misconfigured: Mapping[int, str]


# Some are from older lists and may still occur.
_WEB_REASONS = {
    6: Reason.TICKET_REJECTED,
    7: Reason.TICKET_REJECTED,  # captcha no match: randstr is not this ticket's
    8: Reason.TICKET_EXPIRED,  # older than five minutes
    9: Reason.TICKET_REUSED,
    10: Reason.TICKET_REJECTED,
    11: Reason.TICKET_REJECTED,
    12: Reason.TICKET_REJECTED,
    13: Reason.TICKET_REJECTED,  # verify ip no match
    15: Reason.TICKET_REJECTED,  # decrypt fail: not authentic
    17: Reason.TICKET_REJECTED,
    18: Reason.TICKET_REJECTED,
    19: Reason.TICKET_REJECTED,
    20: Reason.TICKET_REJECTED,
    21: Reason.RISK_DENIED,  # the risk engine, except for disaster tickets
    22: Reason.TICKET_REJECTED,
    23: Reason.TICKET_REJECTED,
    24: Reason.TICKET_REJECTED,
    25: Reason.RISK_DENIED,  # bad visitor
}
_NO_PACKAGE = "the account has no captcha package, or owes money"
_WEB_MISCONFIGURED = {
    16: "the ticket is of another captcha than app_id",
    31: _NO_PACKAGE,
    100: "app_id and app_secret_key do not belong together, or not to the ticket",
}
WEB = Codes(MappingProxyType(_WEB_REASONS), MappingProxyType(_WEB_MISCONFIGURED))
"""The codes of DescribeCaptchaResult."""

_MINI_REASONS = {
    8: Reason.TICKET_EXPIRED,
    10: Reason.TICKET_REJECTED,  # format error
    15: Reason.TICKET_REJECTED,  # decrypt failed
    21: Reason.TICKET_REJECTED,  # ticket error, except for disaster tickets
    25: Reason.TICKET_REJECTED,  # invalid ticket
}
_MINI_MISCONFIGURED = {
    7: "the ticket is of another captcha than app_id",
    16: "app_id is wrong",
    31: _NO_PACKAGE,
    100: "a parameter is wrong; check app_id and app_secret_key",
}
MINI_PROGRAM = Codes(MappingProxyType(_MINI_REASONS), MappingProxyType(_MINI_MISCONFIGURED))
"""The codes of DescribeCaptchaMiniResult; 7 differs there, and a code for reuse is missing."""

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


def judge(verdict: Verdict, ticket: Submission, codes: Codes) -> Reason | None:
    """Return why `verdict` refuses `ticket`, or None if it proves a pass.

    Args:
        verdict: Tencent's verdict.
        ticket: The submission that it is about.
        codes: The codes of the action that was called.

    Raises:
        OutageError: If the code is 26, Tencent's own failure.
        MisconfiguredError: If only the operator can fix what the code means.
        VerifierError: If the code is unknown, so it is not a verdict.
    """
    if verdict.passed:
        return None
    code = verdict.code
    if code in (16, 21) and is_disaster(ticket.ticket):
        return Reason.DISASTER_TICKET
    reason = Reason.RISK_DENIED if code == PASSED_CODE else codes.reasons.get(code)
    if reason is None:
        raise _no_verdict(code, codes, verdict.request_id)
    if reason is Reason.TICKET_REUSED and verdict.resent:
        # The first of the two calls may have spent the ticket, so this proves no replay.
        return Reason.TICKET_EXPIRED
    return reason


def _no_verdict(code: int, codes: Codes, request_id: str) -> VerifierError:
    if code == _OUTAGE:
        return OutageError("Tencent is busy (CaptchaCode 26)", request_id=request_id)
    if code in codes.misconfigured:
        message = f"CaptchaCode {code}: {codes.misconfigured[code]}"
        return MisconfiguredError(message, request_id=request_id)
    message = f"CaptchaCode {code!r} is in no table of Tencent's"
    return VerifierError(message, request_id=request_id)


def api_error(error: object, request_id: str) -> VerifierError:
    """Return the error for an API failure `{"Code": …, "Message": …}`."""
    code = error.get("Code") if isinstance(error, dict) else None
    # It is logged, and other text could imitate log lines.
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return VerifierError(
            "Tencent's error has no code", request_id=request_id, answered=False
        )
    kind = _API_ERRORS.get(code.partition(".")[0], VerifierError)
    return kind(f"Tencent answered {code}{_advice(code)}", request_id=request_id)


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


def _advice(code: str) -> str:
    known = [start for start in _ADVICE if code.startswith(start)]
    return f": {_ADVICE[max(known, key=len)]}" if known else ""
