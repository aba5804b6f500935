"""Tencent's API format: the bytes that are sent, and which answers count as a verdict."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcaptcha_middleware import (
    ConfigurationError,
    MisconfiguredError,
    OutageError,
    Submission,
    ThrottledError,
    Verdict,
    VerifierError,
)
from tcaptcha_middleware._http.codec import encode_head, encode_request
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.tencent.api import (
    CallWriter,
    authorization,
    parameters,
    read_answer,
    read_document,
)
from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.tencent.sites import SITES, api_origin

CAPTCHA = Captcha(123456789, "1234567891011121314151516")
TICKET = Submission("ticket-ok", "@abc", "203.0.113.8")


def call(captcha, ticket, action):
    return CallWriter(captcha, action, "h").body(ticket)


def headers(key, *, host, body, timestamp, action):
    writer = CallWriter(CAPTCHA, action, host)
    return writer.constant_headers | writer.headers(key, body, timestamp)


KEY = ("AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", None)
NOON = 1551113065

# DescribeCaptchaResult's input, with Tencent's widths; anything else is UnknownParameter.
TYPES = {
    "CaptchaType": int,
    "Ticket": str,
    "UserIp": str,
    "Randstr": str,
    "CaptchaAppId": int,
    "AppSecretKey": str,
    "NeedGetCaptchaTime": int,
}


def request(action, more_headers, body):
    """The bytes of a call as they were when nothing was prepared."""
    head = (
        f"POST / HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\nHost: {HOST}\r\n"
        f"X-TC-Action: {action}\r\nX-TC-Version: 2019-07-22\r\nAccept-Encoding: identity\r\n"
        "Authorization: TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA/"
        "2019-02-25/captcha/tc3_request, SignedHeaders=content-type;host;x-tc-action, "
    )
    return (head + more_headers + body).encode()


HOST = "captcha.tencentcloudapi.com"
REQUESTS = {
    "web": (
        WEB,
        request(
            "DescribeCaptchaResult",
            "Signature=b596cad2c539792b22b3ad23b4b1f690cfc7c71a3684ace431cb7670ca44acf4\r\n"
            "X-TC-Timestamp: 1551113065\r\nX-TC-Token: a-token\r\nContent-Length: 178\r\n\r\n",
            r'{"CaptchaType":9,"Ticket":"ticket \"\\\u00f6k","UserIp":"203.0.113.8",'
            r'"Randstr":"@abc","CaptchaAppId":123456789,'
            r'"AppSecretKey":"1234567891011121314151516","NeedGetCaptchaTime":1}',
        ),
    ),
    "mini-program": (
        MINI_PROGRAM,
        request(
            "DescribeCaptchaMiniResult",
            "Signature=0564e7d5aa462c423f0c734162550ba335ba9a614423546091075c88d2661fe4\r\n"
            "X-TC-Timestamp: 1551113065\r\nX-TC-Token: a-token\r\nContent-Length: 138\r\n\r\n",
            r'{"CaptchaType":9,"Ticket":"ticket \"\\\u00f6k","UserIp":"203.0.113.8",'
            r'"CaptchaAppId":123456789,"AppSecretKey":"1234567891011121314151516"}',
        ),
    ),
}


@pytest.mark.parametrize(("action", "expected"), REQUESTS.values(), ids=REQUESTS)
def test_a_prepared_request_is_byte_for_byte_that_of_the_plain_way(action, expected):
    writer = CallWriter(CAPTCHA, action, HOST)
    body = writer.body(Submission('ticket "\\ök', "@abc", "203.0.113.8"))
    fields = writer.headers((*KEY[:2], "a-token"), body, NOON)
    assert encode_request(encode_head(writer.constant_headers), fields, body) == expected


def test_the_call_is_exactly_these_bytes():
    assert call(CAPTCHA, TICKET, WEB) == (
        b'{"CaptchaType":9,"Ticket":"ticket-ok","UserIp":"203.0.113.8","Randstr":"@abc",'
        b'"CaptchaAppId":123456789,"AppSecretKey":"1234567891011121314151516",'
        b'"NeedGetCaptchaTime":1}'
    )


def test_the_mini_program_call_is_exactly_these_bytes():
    assert call(CAPTCHA, TICKET, MINI_PROGRAM) == (
        b'{"CaptchaType":9,"Ticket":"ticket-ok","UserIp":"203.0.113.8",'
        b'"CaptchaAppId":123456789,"AppSecretKey":"1234567891011121314151516"}'
    )


@pytest.mark.parametrize("action", [WEB, MINI_PROGRAM])
def test_a_secret_that_is_a_percent_sign_is_sent(action):
    document = json.loads(call(Captcha(1, "%"), Submission("%", "%", "%"), action))
    assert document == parameters(Captcha(1, "%"), Submission("%", "%", "%"), action)


def test_another_action_is_sent_and_signed():
    sent = headers(KEY, host="h", body=b"{}", timestamp=NOON, action=MINI_PROGRAM)
    assert sent["X-TC-Action"] == "DescribeCaptchaMiniResult"
    signed = {name: sent[name] for name in ("Content-Type", "Host", "X-TC-Action")}
    proof = authorization(*KEY[:2], headers=signed, body=b"{}", timestamp=NOON)
    assert sent["Authorization"] == proof


def test_every_parameter_is_documented_and_of_its_type():
    kinds = {name: type(value) for name, value in parameters(CAPTCHA, TICKET, WEB).items()}
    assert kinds == TYPES


@given(st.builds(Submission, st.text(), st.text(), st.text()))
@example(Submission("\ud800", '"\\\0', "\u2028"))
@example(Submission('","CaptchaType":1,"x":"', "é", "登"))
def test_the_call_is_ascii_json_that_no_ticket_escapes(ticket):
    body = call(CAPTCHA, ticket, WEB)
    assert body.isascii()
    assert json.loads(body) == parameters(CAPTCHA, ticket, WEB)


def sent(token: str | None = None, host: str = "captcha.tencentcloudapi.com") -> dict[str, str]:
    return headers((*KEY[:2], token), host=host, body=b"{}", timestamp=NOON, action=WEB)


def test_the_headers_of_a_call():
    proof = sent()["Authorization"]
    assert sent() == {
        "Accept-Encoding": "identity",
        "Authorization": proof,
        "Content-Type": "application/json; charset=utf-8",
        "Host": "captcha.tencentcloudapi.com",
        "X-TC-Action": "DescribeCaptchaResult",
        "X-TC-Timestamp": "1551113065",
        "X-TC-Version": "2019-07-22",
    }
    start = f"TC3-HMAC-SHA256 Credential={KEY[0]}/2019-02-25/captcha/tc3_request, "
    assert proof.startswith(f"{start}SignedHeaders=content-type;host;x-tc-action, Signature=")


@pytest.mark.parametrize("token", [None, ""], ids=repr)
def test_a_permanent_key_sends_no_token(token):
    assert "X-TC-Token" not in sent(token)


def test_a_temporary_key_sends_its_token():
    assert sent("the-token") == sent() | {"X-TC-Token": "the-token"}


@pytest.mark.parametrize("host", ["h", "127.0.0.1:9000", "[::1]:9000", "API.example"])
def test_the_host_is_signed_as_sent_including_the_port(host):
    given_headers = sent(host=host)
    signed = {name: given_headers[name] for name in ("Content-Type", "Host", "X-TC-Action")}
    proof = authorization(*KEY[:2], headers=signed, body=b"{}", timestamp=NOON)
    assert given_headers["Host"] == host
    assert given_headers["Authorization"] == proof


def test_the_signature_covers_the_body_as_sent():
    first, second = (
        headers(KEY, host="h", body=body, timestamp=NOON, action=WEB) for body in (b"1", b"2")
    )
    assert first["Authorization"] != second["Authorization"]


HOSTS = {
    "cn": ("captcha.tencentcloudapi.com", "turing.captcha.qcloud.com/TJCaptcha.js"),
    "intl": (
        "captcha.intl.tencentcloudapi.com",
        "ca.turing.captcha.qcloud.com/TJNCaptcha-global.js",
    ),
}


@pytest.mark.parametrize(("site", "places"), HOSTS.items(), ids=HOSTS)
def test_a_site_has_its_endpoint_and_its_script(site, places):
    assert api_origin(site, None, WEB) == f"https://{places[0]}"
    assert SITES[site].script == f"https://{places[1]}"


@pytest.mark.parametrize("site", ["", "CN", "international", "us", None, 1, True], ids=repr)
def test_an_unknown_site_is_refused(site):
    with pytest.raises(ConfigurationError, match='"cn" or "intl"'):
        api_origin(site, None, WEB)


@pytest.mark.parametrize("site", ["intl", "CN", None], ids=repr)
def test_mini_programs_have_one_site(site):
    assert api_origin("cn", None, MINI_PROGRAM) == "https://captcha.tencentcloudapi.com"
    with pytest.raises(ConfigurationError, match='for DescribeCaptchaMiniResult it is "cn"'):
        api_origin(site, None, MINI_PROGRAM)


ORIGINS = {
    "http://127.0.0.1:9000": "http://127.0.0.1:9000",
    "http://localhost:9000/": "http://localhost:9000",
    "https://captcha.ap-guangzhou.tencentcloudapi.com": (
        "https://captcha.ap-guangzhou.tencentcloudapi.com"
    ),
    "HTTPS://API.example": "https://api.example",
    "http://[::1]:9000": "http://[::1]:9000",
    "https://h:65535": "https://h:65535",
    "http://127.9.9.9": "http://127.9.9.9",
    "http://app.localhost:9000": "http://app.localhost:9000",
}


@pytest.mark.parametrize(("given_origin", "origin"), ORIGINS.items(), ids=ORIGINS)
@pytest.mark.parametrize("site", SITES)
def test_an_endpoint_replaces_the_sites_origin(site, given_origin, origin):
    assert api_origin(site, given_origin, WEB) == origin


UNENCRYPTED = [
    "http://captcha.tencentcloudapi.com",
    "http://captcha.internal.tencentcloudapi.com",
    "http://emulator:9000",
    "HTTP://192.168.0.1",
    "http://localhost.example",
    "http://[::2]",
]


@pytest.mark.parametrize("origin", UNENCRYPTED)
def test_secrets_leave_this_machine_only_encrypted(origin):
    with pytest.raises(ConfigurationError, match="use https"):
        api_origin("cn", origin, WEB)


NO_ORIGINS = [
    "",
    "captcha.tencentcloudapi.com",
    "//captcha.tencentcloudapi.com",
    "127.0.0.1:9000",
    "ftp://h",
    "file:///etc/passwd",
    "http://",
    "http:///path",
    "http://:9000",
    "http://h/path",
    "http://h?query",
    "http://h#fragment",
    "http://user@h",
    "http://user:password@h",
    "http://h:port",
    "http://h:65536",
    "https://h:0",
    "http://h:-1",
    "http://[::1",
    "http://h\r\nX-Forged: 1",
    "http://h\n",
    " http://h",
    "http://h h",
    "http://\u212aelvin.example",
    "http://登录.example",
    8080,
    b"http://h",
]


@pytest.mark.parametrize("origin", NO_ORIGINS, ids=ascii)
def test_an_invalid_endpoint_is_refused_with_an_example(origin):
    with pytest.raises(ConfigurationError, match="write a whole origin"):
        api_origin("cn", origin, WEB)


SAMPLE = {
    "CaptchaCode": 1,
    "CaptchaMsg": "OK",
    "EvilLevel": 0,
    "GetCaptchaTime": 1729583235,
    "EvilBitmap": 0,
    "SubmitCaptchaTime": 1729583239,
    "DeviceRiskCategory": "301",
    "Score": 12,
    "RequestId": "7c370964",
}
NO_CODE = {name: value for name, value in SAMPLE.items() if name != "CaptchaCode"}


def answer(**fields: object) -> bytes:
    return json.dumps({"Response": SAMPLE | fields}).encode()


def document(value: object) -> bytes:
    return json.dumps(value).encode()


def api(code: object) -> bytes:
    error = {"Code": code, "Message": "the ticket tr03secret"}
    return document({"Response": {"Error": error, "RequestId": "7c370964"}})


def test_every_field_of_an_answer_is_read():
    assert read_answer(200, answer(), WEB.codes) == Verdict(
        code=1,
        evil_level=0,
        score=12,
        message="OK",
        request_id="7c370964",
        fetched_at=1729583235,
        submitted_at=1729583239,
        outcome="passed",
    )


def test_an_answer_with_only_the_code_is_a_verdict():
    body = document({"Response": {"CaptchaCode": 1}})
    assert read_answer(200, body, WEB.codes) == Verdict(1, outcome="passed")


VERDICTS = {
    "solved": (answer(), True),
    "EvilLevel 99": (answer(EvilLevel=99), True),
    "EvilLevel 100": (answer(EvilLevel=100), False),
    "EvilLevel 101": (answer(EvilLevel=101), False),
    "EvilLevel null": (answer(EvilLevel=None), True),
    "EvilBitmap null": (answer(EvilBitmap=None), True),
    "EvilBitmap of another type": (answer(EvilBitmap=[]), True),
    "DeviceRiskCategory null": (answer(DeviceRiskCategory=None), True),
    "Score 100": (answer(Score=100), True),
    "Score null": (answer(Score=None), True),
    "both times null": (answer(GetCaptchaTime=None, SubmitCaptchaTime=None), True),
    "CaptchaMsg null": (answer(CaptchaMsg=None), True),
    "CaptchaMsg that says no": (answer(CaptchaMsg="decrypt fail"), True),
    "CaptchaMsg that says OK": (answer(CaptchaCode=15, CaptchaMsg="OK"), False),
    "RequestId of another type": (answer(RequestId=1), True),
    "an unknown field": (answer(Tomorrow={"a": [1]}), True),
    "the sample, code 0 beside retcode 0": (
        document({"Response": SAMPLE | {"CaptchaCode": 0}, "retcode": 0, "retmsg": "success"}),
        False,
    ),
    "a bad retcode beside code 1": (document({"Response": SAMPLE, "retcode": -1}), True),
    "code 9": (answer(CaptchaCode=9), False),
    "code -1": (answer(CaptchaCode=-1), False),
    "code 2**64 + 1": (answer(CaptchaCode=2**64 + 1), False),
    "blanks around": (b" \r\n" + answer() + b"\n", True),
}


@pytest.mark.parametrize(("body", "passed"), VERDICTS.values(), ids=VERDICTS)
def test_an_answer_that_is_as_documented_is_a_verdict(body, passed):
    assert read_answer(200, body, WEB.codes).passed is passed


NO_VERDICTS = {
    # Not JSON, or JSON that is not an answer.
    "nothing": b"",
    "HTML": b"<!DOCTYPE html><title>Welcome</title>",
    "truncated": answer()[:-10],
    "two documents": answer() * 2,
    "invalid UTF-8": b'{"Response": {"CaptchaCode": 1, "CaptchaMsg": "\xff"}}',
    "100,000 deep": b"[" * 100_000,
    "100,000 deep, closed": b'{"Response":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "null": b"null",
    "true": b"true",
    "the number 1": b"1",
    "text": b'"OK"',
    "list": b"[]",
    "list of the answer": b"[" + answer() + b"]",
    "empty object": b"{}",
    "no envelope": document(SAMPLE),
    "legacy": document({"response": 1, "evil_level": 0, "err_msg": ""}),
    "retcode alone": document({"retcode": 0, "retmsg": "success"}),
    "response in lower case": document({"response": SAMPLE}),
    "Response null": document({"Response": None}),
    "Response a list": document({"Response": [SAMPLE]}),
    "Response as text": document({"Response": json.dumps(SAMPLE)}),
    "Response empty": document({"Response": {}}),
    # Without a code.
    "CaptchaCode missing": document({"Response": NO_CODE}),
    "CaptchaCode in lower case": document({"Response": NO_CODE | {"captchacode": 1}}),
    "CaptchaCode as text": answer(CaptchaCode="1"),
    "CaptchaCode true": answer(CaptchaCode=True),
    "CaptchaCode 1.0": answer(CaptchaCode=1.0),
    "CaptchaCode 1e0": answer().replace(b'"CaptchaCode": 1', b'"CaptchaCode": 1e0'),
    "CaptchaCode null": answer(CaptchaCode=None),
    "CaptchaCode in a list": answer(CaptchaCode=[1]),
    "CaptchaCode in an object": answer(CaptchaCode={"value": 1}),
    "CaptchaCode NaN": answer(CaptchaCode=float("nan")),
    "CaptchaCode of 5,000 digits": answer().replace(b": 1,", b": 1" + b"0" * 5000 + b",", 1),
    # Fields of another type.
    "EvilLevel as text": answer(EvilLevel="0"),
    "EvilLevel false": answer(EvilLevel=False),
    "EvilLevel 0.0": answer(EvilLevel=0.0),
    "EvilLevel in a list": answer(EvilLevel=[0]),
    "EvilLevel empty": answer(EvilLevel=""),
    "EvilLevel NaN": answer(EvilLevel=float("nan")),
    # An error beside a verdict, or a malformed error.
    "an error beside code 1": answer(Error={"Code": "Teapot"}),
    "Error null": answer(Error=None),
    "Error empty": answer(Error={}),
    "Error as text": answer(Error="InternalError"),
    "Error a list": answer(Error=[{"Code": "InternalError"}]),
    "Error's code null": api(None),
    "Error's code a number": api(26),
    "Error's code unknown": api("Teapot"),
    "ServiceUnavailable": api("ServiceUnavailable"),
}


@pytest.mark.parametrize("body", NO_VERDICTS.values(), ids=NO_VERDICTS)
def test_any_other_answer_is_neither_a_verdict_nor_an_outage(body):
    with pytest.raises(VerifierError) as caught:
        read_answer(200, body, WEB.codes)
    assert type(caught.value) is VerifierError
    assert "tr03secret" not in str(caught.value)


ODD = [12.5, "", "12", True, None, [], {}, float("nan")]


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("name", ["Score", "GetCaptchaTime", "SubmitCaptchaTime"])
def test_an_odd_field_that_decides_nothing_is_dropped(name, value):
    verdict = read_answer(200, answer(**{name: value}), WEB.codes)
    assert verdict.passed
    attribute = {"Score": "score", "GetCaptchaTime": "fetched_at"}.get(name, "submitted_at")
    assert getattr(verdict, attribute) == (None if name == "Score" else 0)


UNCLEAR = {"nothing", "HTML", "truncated", "empty object", "CaptchaCode missing"}


@pytest.mark.parametrize("name", sorted(UNCLEAR))
def test_an_unclear_answer_does_not_show_that_tencent_is_up(name):
    with pytest.raises(VerifierError) as caught:
        read_answer(200, NO_VERDICTS[name], WEB.codes)
    assert not caught.value.answered


def test_an_unknown_error_shows_that_tencent_is_up():
    with pytest.raises(VerifierError) as caught:
        read_answer(200, api("Teapot"), WEB.codes)
    assert caught.value.answered


def test_a_verdict_says_if_the_call_was_sent_twice():
    assert not read_answer(200, answer(), WEB.codes).resent
    assert read_answer(200, answer(), WEB.codes, resent=True).resent


ERRORS = {
    "InternalError": OutageError,
    "RequestLimitExceeded": ThrottledError,
    "AuthFailure.SignatureFailure": MisconfiguredError,
}


@pytest.mark.parametrize(("code", "kind"), ERRORS.items(), ids=ERRORS)
def test_an_api_error_is_raised_with_its_request_id(code, kind):
    with pytest.raises(kind, match=code) as caught:
        read_answer(200, api(code), WEB.codes)
    assert caught.value.request_id == "7c370964"


@pytest.mark.parametrize(
    "code", ["InternalError\nINFO: all is well", " InternalError", "", "é", "A" * 129], ids=repr
)
def test_a_code_that_could_forge_a_log_line_is_ignored(code):
    with pytest.raises(VerifierError, match="has no code") as caught:
        read_answer(200, api(code), WEB.codes)
    assert not isinstance(caught.value, OutageError)


@pytest.mark.parametrize("request_id", [None, 1, ["id"], "id\nINFO: all is well"], ids=repr)
def test_a_request_id_that_is_not_a_string_is_omitted(request_id):
    with pytest.raises(VerifierError) as caught:
        read_answer(200, answer(CaptchaCode=None, RequestId=request_id), WEB.codes)
    assert caught.value.request_id == ""


def test_an_unreadable_answer_is_quoted_by_its_request_id():
    with pytest.raises(VerifierError, match="CaptchaCode") as caught:
        read_answer(200, answer(CaptchaCode="1"), WEB.codes)
    assert caught.value.request_id == "7c370964"


STATUSES = {
    201: VerifierError,
    204: VerifierError,
    206: VerifierError,
    301: VerifierError,
    302: VerifierError,
    304: VerifierError,
    400: VerifierError,
    401: VerifierError,
    403: VerifierError,
    404: VerifierError,
    407: VerifierError,
    429: ThrottledError,
    499: VerifierError,
    500: OutageError,
    502: OutageError,
    503: OutageError,
    504: OutageError,
    599: OutageError,
}


@pytest.mark.parametrize("body", [answer(), b"", b"<html>"], ids=["solved", "nothing", "HTML"])
@pytest.mark.parametrize(("status", "kind"), STATUSES.items(), ids=map(str, STATUSES))
def test_only_status_200_is_a_verdict(status, kind, body):
    with pytest.raises(VerifierError, match=str(status)) as caught:
        read_answer(status, body, WEB.codes)
    assert type(caught.value) is kind


def is_proof(document: object) -> bool:
    response = document["Response"]
    code, evil_level = response["CaptchaCode"], response.get("EvilLevel")
    harmless = evil_level is None or (type(evil_level) is int and evil_level < 100)
    return type(code) is int and code == 1 and harmless and "Error" not in response


def judged(document: object) -> None:
    try:
        verdict = read_document(document, WEB.codes)
    except VerifierError:
        return
    assert verdict.passed == is_proof(document)


@given(st.integers(100, 599), st.binary())
def test_any_bytes_return_a_verdict_or_raise_a_verifier_error(status, body):
    try:
        verdict = read_answer(status, body, WEB.codes)
    except VerifierError:
        return
    assert status == 200
    assert verdict.passed == is_proof(json.loads(body))


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
NEAR = st.sampled_from([0, 1, 1.0, True, "1", None, 99, 100, 100.0, [1]]) | ANY
FIELDS = st.dictionaries(
    st.sampled_from([*SAMPLE, "Error"]), NEAR, min_size=1
) | st.fixed_dictionaries(
    {"CaptchaCode": st.just(1) | NEAR}, optional={"EvilLevel": NEAR, "Score": NEAR}
)


@given(ANY | st.fixed_dictionaries({"Response": FIELDS | ANY}, optional={"retcode": NEAR}))
def test_only_code_1_without_evil_level_100_passes(document):
    judged(document)
    judged(json.loads(json.dumps(document)))
