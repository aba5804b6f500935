"""The values: what they contain, hide in their repr, and reject."""

from __future__ import annotations

import pytest

from tcaptcha_middleware import Allow, Reason, RequestInfo, Submission, Verdict
from tcaptcha_middleware.errors import VerifierError

PROOF = [
    (Verdict(1), True),
    (Verdict(1, evil_level=99), True),
    (Verdict(1, evil_level=100), False),
    (Verdict(1, evil_level=101), False),
    (Verdict(0), False),
    (Verdict(2), False),
    (Verdict(True), False),
    (Verdict(1.0), False),
    (Verdict("1"), False),
    (Verdict(None), False),
    (Verdict(1, evil_level=False), False),
    (Verdict(1, evil_level="0"), False),
    (Verdict(1, evil_level=None), False),
]


@pytest.mark.parametrize(("verdict", "passed"), PROOF, ids=repr)
def test_a_verdict_passes_only_on_positive_proof(verdict, passed):
    assert verdict.passed is passed


def test_a_verdict_has_no_truth_value():
    with pytest.raises(TypeError, match="passed"):
        bool(Verdict(1))


def test_a_decision_is_a_value():
    passed = Allow("login", Verdict(1), fingerprint="f")
    assert {passed: True}[Allow("login", Verdict(1), fingerprint="f")]
    assert passed != Allow("login", Verdict(1), fingerprint="g")
    with pytest.raises(AttributeError):
        passed.ticket = "tr03secret"


def test_the_repr_of_a_submission_hides_ticket_and_randstr():
    shown = repr(Submission("tr03secret", "@rand", "203.0.113.7"))
    assert "tr03secret" not in shown
    assert "@rand" not in shown


def test_the_repr_of_a_request_hides_headers_and_query():
    request = RequestInfo("http", "GET", "/", b"ticket=tr03secret", ((b"x", b"tr03secret"),))
    assert "tr03secret" not in repr(request)


def test_a_request_can_be_a_dict_key():
    request = RequestInfo("http", "GET", "/", headers=[(b"x-a", b"1")])
    assert {request: True}[request]


def test_a_header_is_looked_up_in_any_letter_case():
    request = RequestInfo(
        "http", "GET", "/", headers=((b"x-a", b"1"), (b"x-a", b"2"), (b"b", b"3"))
    )
    assert request.header("x-A") == ["1", "2"]


def test_an_error_quotes_the_request_id():
    assert str(VerifierError("no", request_id="id-1")) == "no (RequestId id-1)"
    assert str(VerifierError("no")) == "no"


@pytest.mark.parametrize("reason", Reason, ids=str)
def test_a_reason_is_its_code_with_a_status_and_an_advice(reason):
    assert reason == reason.value
    assert 400 <= reason.status <= 503
    assert reason.detail.endswith(".")
