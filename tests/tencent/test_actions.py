"""Every code of Tencent: the reason that the visitor gets, or the error that it raises."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import (
    MisconfiguredError,
    OutageError,
    Reason,
    ThrottledError,
    Verdict,
    VerifierError,
)
from tcaptcha_middleware.tencent import actions
from tcaptcha_middleware.tencent.actions import api_error, outcome_of, refusal

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Codes

WEB, MINI_PROGRAM = actions.WEB.codes, actions.MINI_PROGRAM.codes

CODES = {
    # In force.
    1: "passed",
    7: "rejected",
    8: "expired",
    9: "reused",
    15: "rejected",
    16: MisconfiguredError,
    21: "risk",
    26: OutageError,
    31: MisconfiguredError,
    100: MisconfiguredError,
    # Of older lists.
    6: "rejected",
    10: "rejected",
    11: "rejected",
    12: "rejected",
    13: "rejected",
    17: "rejected",
    18: "rejected",
    19: "rejected",
    20: "rejected",
    22: "rejected",
    23: "rejected",
    24: "rejected",
    25: "risk",
    # Not documented.
    -1: VerifierError,
    0: VerifierError,
    2: VerifierError,
    5: VerifierError,
    14: VerifierError,
    27: VerifierError,
    99: VerifierError,
    101: VerifierError,
    10001: VerifierError,
    11000: VerifierError,
    2**63: VerifierError,
}


MINI_CODES = dict.fromkeys(CODES, VerifierError) | {
    1: "passed",
    7: MisconfiguredError,
    8: "expired",
    10: "rejected",
    15: "rejected",
    16: MisconfiguredError,
    21: "rejected",
    25: "rejected",
    26: OutageError,
    31: MisconfiguredError,
    100: MisconfiguredError,
}


def outcome(verdict: Verdict, codes: Codes = WEB) -> object:
    if verdict.passed:
        return "passed"
    meaning = outcome_of(verdict.code, codes, resent=verdict.resent)
    if meaning is not None:
        return meaning
    with pytest.raises(VerifierError) as caught:
        refusal(verdict, codes)
    return caught.type


@pytest.mark.parametrize(("code", "meaning"), CODES.items(), ids=map(str, CODES))
def test_every_captcha_code_has_its_meaning(code, meaning):
    assert outcome(Verdict(code)) == meaning


@pytest.mark.parametrize(("code", "meaning"), MINI_CODES.items(), ids=map(str, MINI_CODES))
def test_every_code_of_a_mini_programs_ticket_has_its_own_meaning(code, meaning):
    assert outcome(Verdict(code), MINI_PROGRAM) == meaning


@pytest.mark.parametrize("evil_level", [100, 101, True, "0", None, 0.0], ids=repr)
@pytest.mark.parametrize("outcome", [None, "passed"])
def test_a_solved_captcha_of_a_malicious_visitor_is_refused(evil_level, outcome):
    verdict = Verdict(1, evil_level=evil_level, outcome=outcome)
    assert not verdict.passed
    assert refusal(verdict, WEB) is Reason.RISK_DENIED


@pytest.mark.parametrize("code", [True, 1.0, "1", None, b"1"], ids=repr)
def test_a_code_that_only_resembles_1_does_not_pass(code):
    assert not Verdict(code).passed
    assert outcome(Verdict(code)) != "passed"


@pytest.mark.parametrize("codes", [WEB, MINI_PROGRAM], ids=["pages", "mini-programs"])
@given(code=st.integers())
def test_only_code_26_is_an_outage_and_only_code_1_passes(codes, code):
    meaning = outcome(Verdict(code), codes)
    assert (meaning is OutageError) == (code == 26)
    assert (meaning == "passed") == (code == 1)


REFUSALS = {
    "rejected": Reason.TICKET_REJECTED,
    "expired": Reason.TICKET_EXPIRED,
    "reused": Reason.TICKET_REUSED,
    "risk": Reason.RISK_DENIED,
}


@pytest.mark.parametrize(("outcome", "reason"), REFUSALS.items())
@pytest.mark.parametrize("code", [0, 1, 9, 26])
def test_an_outcome_takes_precedence_over_the_code(outcome, reason, code):
    verdict = Verdict(code, outcome=outcome)
    assert not verdict.passed
    assert refusal(verdict, WEB) is reason


def test_an_outcome_of_passed_needs_no_code():
    assert Verdict(outcome="passed").passed
    assert not Verdict().passed


@pytest.mark.parametrize("outcome", ["", "PASSED", "pass", True, 1], ids=repr)
def test_an_unknown_outcome_does_not_pass(outcome):
    verdict = Verdict(1, outcome=outcome)
    assert not verdict.passed
    with pytest.raises(MisconfiguredError, match="use one of passed, rejected"):
        refusal(verdict, WEB)


def test_without_an_outcome_the_code_decides():
    assert refusal(Verdict(8), WEB) is Reason.TICKET_EXPIRED
    assert refusal(Verdict(21), WEB) is Reason.RISK_DENIED
    assert refusal(Verdict(21), MINI_PROGRAM) is Reason.TICKET_REJECTED


ADVICE_ON_CODES = {
    16: ("app_id",),
    26: ("26",),
    31: ("package", "money"),
    100: ("app_id", "app_secret_key"),
    0: ("0", "no table"),
}


@pytest.mark.parametrize(
    ("code", "words"), ADVICE_ON_CODES.items(), ids=map(str, ADVICE_ON_CODES)
)
def test_a_code_that_is_not_a_verdict_is_logged_with_advice(code, words):
    with pytest.raises(VerifierError) as caught:
        refusal(Verdict(code, request_id="id-1"), WEB)
    message = str(caught.value)
    assert all(word in message for word in words)
    assert caught.value.request_id == "id-1"
    assert "secret_id" not in message


API_ERRORS = {
    "ActionOffline": MisconfiguredError,
    "AuthFailure": MisconfiguredError,
    "AuthFailure.InvalidAuthorization": MisconfiguredError,
    "AuthFailure.InvalidSecretId": MisconfiguredError,
    "AuthFailure.MFAFailure": MisconfiguredError,
    "AuthFailure.SecretIdNotFound": MisconfiguredError,
    "AuthFailure.SignatureExpire": MisconfiguredError,
    "AuthFailure.SignatureFailure": MisconfiguredError,
    "AuthFailure.TokenFailure": MisconfiguredError,
    "AuthFailure.UnauthorizedOperation": MisconfiguredError,
    "DryRunOperation": VerifierError,
    "FailedOperation": VerifierError,
    "InternalError": OutageError,
    "InvalidAction": MisconfiguredError,
    "InvalidParameter": MisconfiguredError,
    "InvalidParameterValue": MisconfiguredError,
    "InvalidRequest": MisconfiguredError,
    "IpInBlacklist": MisconfiguredError,
    "IpNotInWhitelist": MisconfiguredError,
    "LimitExceeded": ThrottledError,
    "MissingParameter": MisconfiguredError,
    "NoSuchProduct": MisconfiguredError,
    "NoSuchVersion": MisconfiguredError,
    "RequestLimitExceeded": ThrottledError,
    "RequestLimitExceeded.GlobalRegionUinLimitExceeded": ThrottledError,
    "RequestLimitExceeded.IPLimitExceeded": ThrottledError,
    "RequestLimitExceeded.UinLimitExceeded": ThrottledError,
    "RequestSizeLimitExceeded": VerifierError,
    "ResourceInUse": VerifierError,
    "ResourceInsufficient": VerifierError,
    "ResourceNotFound": VerifierError,
    "ResourceUnavailable": VerifierError,
    "ResponseSizeLimitExceeded": VerifierError,
    "ServiceUnavailable": VerifierError,
    "UnauthorizedOperation": MisconfiguredError,
    "UnauthorizedOperation.ErrAuth": MisconfiguredError,
    "UnauthorizedOperation.Unauthorized": MisconfiguredError,
    "UnknownParameter": MisconfiguredError,
    "UnsupportedOperation": MisconfiguredError,
    "UnsupportedProtocol": MisconfiguredError,
    "UnsupportedRegion": MisconfiguredError,
    # Not in the documented list.
    "InternalError.Timeout": OutageError,
    "InternalErrorOfSomebodyElse": VerifierError,
    "internalerror": VerifierError,
    "Teapot": VerifierError,
    ".InternalError": VerifierError,
    "": VerifierError,
}


@pytest.mark.parametrize(
    ("code", "kind"), API_ERRORS.items(), ids=[name or "blank" for name in API_ERRORS]
)
def test_every_api_error_has_an_exception_class(code, kind):
    error = api_error({"Code": code, "Message": "tr03secret"}, "id-1")
    assert type(error) is kind
    assert code in str(error)
    assert error.request_id == "id-1"
    assert "tr03secret" not in str(error)


ODD_ERRORS = {
    "null": None,
    "text": "InternalError",
    "list": ["InternalError"],
    "empty": {},
    "code null": {"Code": None},
    "code a number": {"Code": 26},
    "code a list": {"Code": ["InternalError"]},
    "code in lower case": {"code": "InternalError"},
}


@pytest.mark.parametrize("error", ODD_ERRORS.values(), ids=ODD_ERRORS)
def test_a_malformed_api_error_is_not_an_outage(error):
    error = api_error(error, "id-1")
    assert type(error) is VerifierError
    assert error.request_id == "id-1"


@given(st.text())
def test_an_unknown_api_error_is_not_an_outage(code):
    known = {name.partition(".")[0] for name, kind in API_ERRORS.items() if kind is OutageError}
    is_outage = isinstance(api_error({"Code": code}, ""), OutageError)
    assert is_outage == (code.partition(".")[0] in known)


API_KEY, CAPTCHA = {"secret_id", "secret_key"}, {"app_id", "app_secret_key"}
ADVICE = {
    "AuthFailure": API_KEY | {"token"},
    "AuthFailure.InvalidSecretId": API_KEY | {"token"},
    "AuthFailure.SecretIdNotFound": {"secret_id", "site="},
    "AuthFailure.SignatureFailure": API_KEY,
    "AuthFailure.SignatureExpire": {"clock"},
    "AuthFailure.TokenFailure": {"token"},
    "AuthFailure.UnauthorizedOperation": {"captcha:DescribeCaptchaResult"},
    "UnauthorizedOperation": {"captcha:DescribeCaptchaResult"},
    "UnauthorizedOperation.ErrAuth": {"captcha:DescribeCaptchaResult"},
    "UnauthorizedOperation.Unauthorized": {"package", "money"},
    "InvalidParameter": CAPTCHA,
    "InvalidParameterValue": CAPTCHA,
    "InternalError": set(),
    "MissingParameter": set(),
    "Teapot": set(),
}


@pytest.mark.parametrize(("code", "words"), ADVICE.items(), ids=ADVICE)
def test_the_advice_names_only_the_secret_that_may_be_wrong(code, words):
    message = str(api_error({"Code": code}, ""))
    named = set(re.findall(r"[\w:=]+", message))
    assert named & set().union(*ADVICE.values()) == words


def test_without_advice_only_the_code_is_logged():
    assert str(api_error({"Code": "Teapot"}, "")) == "Tencent answered Teapot"


def test_code_9_after_a_call_that_was_sent_twice_proves_no_replay():
    assert outcome_of(9, WEB, resent=False) == "reused"
    assert outcome_of(9, WEB, resent=True) == "expired"
    assert outcome_of(9, MINI_PROGRAM, resent=True) is None
