"""TC3-HMAC-SHA256: signatures of other implementations, and the rules of canonicalization."""

from __future__ import annotations

import hashlib
import re
import time

import pytest

from tcaptcha_middleware.tencent.api import authorization, canonical_request, scope_and_key

NOON = 1551113065
ID, KEY = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE"
MASKED = "Gu5t9xGARNpq86cd98joQYCN3*******"  # published so: the asterisks are the key's
CHARSET = "application/json; charset=utf-8"

CVM = rb'{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}'
TICKET = (
    b"tr03XaCUZPAlPdIMqv17yvcfdXCzkqvLE09AbCA4ghlWfD8hkySfbU2TZVCyoOCjNI84pAYEMopKv7Uh8XwQDSE9"
    b"DC0xJpXVC7kmlPENlbFINs_N937qkoEmU6Pl8e-9EkFQzvrrwsZOTKQ*"
)
SAMPLE = (
    b'{"CaptchaAppId":199999164,"CaptchaType":9,"NeedGetCaptchaTime":1,"Randstr":"@Vki",'
    b'"UserIp":"127.0.0.1","Ticket":"%b","AppSecretKey":"E4kwK9AcXQMHkktiItyMEyQPn"}' % TICKET
)
# As the official SDK writes it: in its order of keys, with blanks after the separators.
SDK = (
    b'{"CaptchaType": 9, "Ticket": "%b", "UserIp": "127.0.0.1", "Randstr": "@Vki", '
    b'"CaptchaAppId": 199999164, "AppSecretKey": "E4kwK9AcXQMHkktiItyMEyQPn", '
    b'"NeedGetCaptchaTime": 1}' % TICKET
)
INDEPENDENT = (
    b'{"CaptchaType":9,"Ticket":"ticket-ok","UserIp":"203.0.113.8","Randstr":"@abc",'
    b'"CaptchaAppId":123456789,"AppSecretKey":"1234567891011121314151516",'
    b'"NeedGetCaptchaTime":1}'
)


def signed(host: str, action: str = "", content_type: str = CHARSET) -> dict[str, str]:
    headers = {"Content-Type": content_type, "Host": f"{host}.tencentcloudapi.com"}
    return headers | {"X-TC-Action": action} if action else headers


CHECK = "DescribeCaptchaResult"
CVM_PAYLOAD = "35e9c5b0e3ae67532d3c9f17ead6c90222632e5b1ff7f6e89887f1398934f064"
SAMPLE_PAYLOAD = "b6d1d8108f9bbede8f630a1e28740704390fb1652cb3b1c094e81141a1592967"
HASHES = {
    "published, old page": (
        signed("cvm"),
        CVM,
        CVM_PAYLOAD,
        "5ffe6a04c0664d6b969fab9a13bdab201d63ee709638e2749d62a09ca18d7031",
    ),
    "published, new page": (
        signed("cvm", "DescribeInstances"),
        CVM,
        CVM_PAYLOAD,
        "7019a55be8395899b900fb5564e4200d984910f34794a27cb3fb7d10ff6a1e84",
    ),
    "captcha": (
        signed("captcha"),
        SAMPLE,
        SAMPLE_PAYLOAD,
        "5864a653444c8ebc66b4431b8ca6bef3f0f1142342f7e9612fa0acfc8e25e9d8",
    ),
    "captcha, action signed": (
        signed("captcha", CHECK),
        SAMPLE,
        SAMPLE_PAYLOAD,
        "098e6ad079a1b9b6ded92b82c5345fcce47a81fe02b5d4eb10576ea36c054eab",
    ),
}


@pytest.mark.parametrize(
    ("headers", "body", "payload", "canonical"), HASHES.values(), ids=HASHES
)
def test_the_canonical_request_is_the_published_one(headers, body, payload, canonical):
    request = canonical_request(headers, body)
    assert request.endswith(payload.encode())
    assert hashlib.sha256(request).hexdigest() == canonical


VECTORS = {
    "published, old page": (
        (KEY, "cvm", signed("cvm"), CVM),
        "72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168",
    ),
    "published, new page": (
        (MASKED, "cvm", signed("cvm", "DescribeInstances"), CVM),
        "be4f67d323c78ab9acb7395e43c0dbcf822a9cfac32fea2449a7bc7726b770a3",
    ),
    "captcha": (
        (KEY, "captcha", signed("captcha"), SAMPLE),
        "9bb93589399e257bb2df5cbe193a9a28e4bc611933ca1b0bde89f437dc27a6ec",
    ),
    "captcha, action signed": (
        (KEY, "captcha", signed("captcha", CHECK), SAMPLE),
        "a1869dd3f13b6e3195023cb9415960cab86f2ef0996573707d30c99018cb3bb9",
    ),
    "captcha, intl": (
        (KEY, "captcha", signed("captcha.intl"), SAMPLE),
        "eaf87777fcc027b337f80f7ba8f5f2d7f8ddd1c42c302961ce834780ab468706",
    ),
    "captcha, intl, action signed": (
        (KEY, "captcha", signed("captcha.intl", CHECK), SAMPLE),
        "47dedd659a3e859da7be69b81318016f3aeede60fbc6c7e44627144e62c1f90d",
    ),
    "official SDK": (
        (KEY, "captcha", signed("captcha", content_type="application/json"), SDK),
        "42a68ee429da0bdc17bc94700c82be7e21c46242dabdcb98257765a5381567ab",
    ),
    "independent": (
        ("Gu5t9xGARNpq86cd98joQYCN3X1FAKEKEY", "captcha", signed("captcha"), INDEPENDENT),
        "a93b823292643fd97acad007d2ca13c16d29d188da233690a0aea129133eef0d",
    ),
}


@pytest.mark.parametrize(("call", "signature"), VECTORS.values(), ids=VECTORS)
def test_the_signature_matches_published_ones(call, signature):
    key, service, headers, body = call
    proof = authorization(ID, key, headers=headers, body=body, timestamp=NOON, service=service)
    names = ";".join(name.lower() for name in headers)
    assert proof == (
        f"TC3-HMAC-SHA256 Credential={ID}/2019-02-25/{service}/tc3_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )


def test_the_official_sdk_computes_the_same_signature():
    sign = pytest.importorskip("tencentcloud.common.sign").Sign
    proof = authorization(ID, KEY, headers=signed("captcha"), body=SAMPLE, timestamp=NOON)
    canonical = HASHES["captcha"][3]
    text = f"TC3-HMAC-SHA256\n{NOON}\n2019-02-25/captcha/tc3_request\n{canonical}"
    assert proof.endswith(sign.sign_tc3(KEY, "2019-02-25", "captcha", text))


def scope(timestamp: int) -> str:
    proof = authorization(ID, KEY, headers=signed("captcha"), body=b"", timestamp=timestamp)
    return re.search("Credential=[^/]+/([^,]+)", proof)[1]


DAYS = [
    (0, "1970-01-01"),
    (1551139199, "2019-02-25"),  # 23:59:59 in UTC
    (1551139200, "2019-02-26"),
    (1551110399, "2019-02-25"),  # 23:59:59 in China
    (1551110400, "2019-02-25"),
    (1709164800, "2024-02-29"),
]


@pytest.fixture(params=["UTC", "Asia-8", "America+10"])
def local_time(request, monkeypatch):
    # POSIX signs: "Asia-8" is UTC+8.
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="no way to change the local time")
@pytest.mark.parametrize(("timestamp", "date"), DAYS)
@pytest.mark.usefixtures("local_time")
def test_the_date_is_in_utc_in_every_time_zone(timestamp, date):
    assert scope(timestamp) == f"{date}/captcha/tc3_request"


def test_the_signing_key_is_derived_once_a_day():
    scope_and_key.cache_clear()
    for second in range(3):
        headers = signed("captcha")
        authorization(ID, KEY, headers=headers, body=b"", timestamp=NOON + second)
    assert scope_and_key.cache_info().misses == 1
    authorization(ID, KEY, headers=headers, body=b"", timestamp=NOON + 24 * 60 * 60)
    assert scope_and_key.cache_info().misses == 2


def test_another_secret_day_or_service_has_another_signing_key():
    keys = {
        scope_and_key(secret, day, service)[1]
        for secret in (KEY, MASKED)
        for day in (17952, 17953)
        for service in ("cvm", "captcha")
    }
    assert len(keys) == 8


def test_signing_keys_of_past_days_are_dropped():
    for day in range(100):
        scope_and_key(KEY, day, "captcha")
    assert scope_and_key.cache_info().currsize <= 16


SAME = {
    "another order": {"Host": "h", "Content-Type": "a/b"},
    "names in capitals": {"CONTENT-TYPE": "a/b", "HOST": "h"},
    "values in capitals": {"Content-Type": "A/B", "Host": "H"},
    "blanks around the values": {"Content-Type": " a/b\t", "Host": "h "},
}


@pytest.mark.parametrize("headers", SAME.values(), ids=SAME)
def test_insignificant_differences_do_not_change_the_canonical_request(headers):
    expected = b"POST\n/\n\ncontent-type:a/b\nhost:h\n\ncontent-type;host\n"
    body_hash = hashlib.sha256(b"").hexdigest().encode()
    assert canonical_request(headers, b"") == expected + body_hash


OTHER = {
    "a blank within a value": ({"Content-Type": "a/ b", "Host": "h"}, b"{}"),
    "the port": ({"Content-Type": "a/b", "Host": "h:8443"}, b"{}"),
    "a charset": ({"Content-Type": "a/b; charset=utf-8", "Host": "h"}, b"{}"),
    "one header more": ({"Content-Type": "a/b", "Host": "h", "X": ""}, b"{}"),
    "a blank in the body": ({"Content-Type": "a/b", "Host": "h"}, b"{ }"),
}


@pytest.mark.parametrize(("headers", "body"), OTHER.values(), ids=OTHER)
def test_significant_differences_change_the_canonical_request(headers, body):
    plain = canonical_request({"Content-Type": "a/b", "Host": "h"}, b"{}")
    assert canonical_request(headers, body) != plain


def test_signed_headers_are_sorted_by_name():
    headers = {"X-TC-Action": "a", "X-TC": "b", "Host": "h", "Content-Type": "a/b"}
    lines = canonical_request(headers, b"").decode().splitlines()
    names = [line.partition(":")[0] for line in lines[3:7]]
    assert names == ["content-type", "host", "x-tc", "x-tc-action"]
    assert lines[8] == ";".join(names)
