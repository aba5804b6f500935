"""Every code of Tencent's: what it means for the visitor, and whose fault it is."""

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
    Submission,
    ThrottledError,
    Verdict,
    VerifierError,
)
from tcaptcha_middleware.tencent.codes import MINI_PROGRAM, WEB, api_error, judge

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.codes import Codes

TICKETS = {
    "ordinary": "tr03XaCUZPAlPdIMqv17yvcfdXCzkqvLE09AbCA4ghlWfD8hky*",
    "ordinary, old": "t03MvlKhN3XaCUZPAlPdIMqv17yvcfdXCzkqvLE09AbCA4gh**",
    "error elsewhere": "tr03trerror_1001_199999164_1700000000",
    "error alone": "error_1001_199999164_1700000000",
}
DISASTERS = {
    "trerror": "trerror_1006_199999164_1700000000",
    "terror": "terror_1006_199999164_1700000000",
    "trerror, underscore lost": "trerror_1001_1999991641700000000",
    "terror, underscore lost": "terror_1001_1999991641700000000",
    "trerror, capitals": "TRERROR_1001_199999164_1700000000",
    "trerror alone": "trerror",
}

R = Reason
CODES = {
    # In force.
    1: None,
    7: R.TICKET_REJECTED,
    8: R.TICKET_EXPIRED,
    9: R.TICKET_REUSED,
    15: R.TICKET_REJECTED,
    16: MisconfiguredError,
    21: R.RISK_DENIED,
    26: OutageError,
    31: MisconfiguredError,
    100: MisconfiguredError,
    # Of older lists.
    6: R.TICKET_REJECTED,
    10: R.TICKET_REJECTED,
    11: R.TICKET_REJECTED,
    12: R.TICKET_REJECTED,
    13: R.TICKET_REJECTED,
    17: R.TICKET_REJECTED,
    18: R.TICKET_REJECTED,
    19: R.TICKET_REJECTED,
    20: R.TICKET_REJECTED,
    22: R.TICKET_REJECTED,
    23: R.TICKET_REJECTED,
    24: R.TICKET_REJECTED,
    25: R.RISK_DENIED,
    # In no table.
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
    1: None,
    7: MisconfiguredError,
    8: R.TICKET_EXPIRED,
    10: R.TICKET_REJECTED,
    15: R.TICKET_REJECTED,
    16: MisconfiguredError,
    21: R.TICKET_REJECTED,
    25: R.TICKET_REJECTED,
    26: OutageError,
    31: MisconfiguredError,
    100: MisconfiguredError,
}


def outcome(verdict: Verdict, ticket: str, codes: Codes = WEB) -> object:
    try:
        return judge(verdict, Submission(ticket, "@rand", "203.0.113.7"), codes)
    except VerifierError as error:
        return type(error)


@pytest.mark.parametrize("ticket", TICKETS.values(), ids=TICKETS)
@pytest.mark.parametrize(("code", "meaning"), CODES.items(), ids=map(str, CODES))
def test_every_captcha_code_has_its_meaning(code, meaning, ticket):
    assert outcome(Verdict(code), ticket) is meaning


@pytest.mark.parametrize("ticket", TICKETS.values(), ids=TICKETS)
@pytest.mark.parametrize(("code", "meaning"), MINI_CODES.items(), ids=map(str, MINI_CODES))
def test_every_code_of_a_mini_programs_ticket_has_its_own_meaning(code, meaning, ticket):
    assert outcome(Verdict(code), ticket, MINI_PROGRAM) is meaning


@pytest.mark.parametrize("ticket", DISASTERS.values(), ids=DISASTERS)
@pytest.mark.parametrize(("code", "meaning"), CODES.items(), ids=map(str, CODES))
def test_of_a_disaster_ticket_16_and_21_mean_that_it_is_one(code, meaning, ticket):
    expected = Reason.DISASTER_TICKET if code in (16, 21) else meaning
    assert outcome(Verdict(code), ticket) is expected


@pytest.mark.parametrize("evil_level", [100, 101, True, "0", None, 0.0], ids=repr)
def test_a_solved_captcha_of_a_malicious_visitor_is_refused(evil_level):
    verdict = Verdict(1, evil_level=evil_level)
    assert outcome(verdict, TICKETS["ordinary"]) is Reason.RISK_DENIED


@pytest.mark.parametrize("code", [True, 1.0, "1", None, b"1"], ids=repr)
def test_what_only_looks_like_a_solved_captcha_is_refused(code):
    assert outcome(Verdict(code), TICKETS["ordinary"]) is not None


@pytest.mark.parametrize("codes", [WEB, MINI_PROGRAM], ids=["pages", "mini-programs"])
@given(code=st.integers())
def test_only_code_26_is_an_outage_and_only_code_1_passes(codes, code):
    said = outcome(Verdict(code), TICKETS["ordinary"], codes)
    assert (said is OutageError) == (code == 26)
    assert (said is None) == (code == 1)


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
def test_a_code_that_is_no_verdict_says_what_to_look_at(code, words):
    with pytest.raises(VerifierError) as caught:
        judge(
            Verdict(code, request_id="id-1"),
            Submission("tr03secret", "@rand", "203.0.113.7"),
            WEB,
        )
    message = str(caught.value)
    assert all(word in message for word in words)
    assert caught.value.request_id == "id-1"
    assert "secret_id" not in message
    assert "tr03secret" not in message


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
    # In no list.
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
def test_every_api_error_is_somebodys_fault(code, kind):
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
def test_an_api_error_of_another_shape_is_no_outage(error):
    found = api_error(error, "id-1")
    assert type(found) is VerifierError
    assert found.request_id == "id-1"


@given(st.text())
def test_an_unknown_api_error_is_no_outage(code):
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
def test_the_advice_names_the_secret_to_look_at_and_no_other(code, words):
    message = str(api_error({"Code": code}, ""))
    named = set(re.findall(r"[\w:=]+", message))
    assert named & set().union(*ADVICE.values()) == words


def test_without_advice_the_code_stands_alone():
    assert str(api_error({"Code": "Teapot"}, "")) == "Tencent answered Teapot"


def test_code_9_after_a_call_that_was_sent_twice_proves_no_replay():
    ticket = Submission(TICKETS["ordinary"], "@r", "203.0.113.7")
    assert judge(Verdict(9), ticket, WEB) is Reason.TICKET_REUSED
    assert judge(Verdict(9, resent=True), ticket, WEB) is Reason.TICKET_EXPIRED
    with pytest.raises(VerifierError):
        judge(Verdict(9, resent=True), ticket, MINI_PROGRAM)
