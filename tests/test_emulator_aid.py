"""How the emulator reads aidEncrypted: by vectors, and whatever can be wrong with it."""

from __future__ import annotations

import asyncio
import sys
from base64 import b64decode, b64encode

import httpx
import pytest

from tcaptcha_middleware.testing import TencentEmulator

pytest.importorskip("cryptography")

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.testing.emulator._browser import Aid, AidCheck

APP_ID, SECRET, MADE = 123456789, "1234567891011121314151516", 1710144972
KEY = b"12345678910111213141515161234567"
GCM = "MDEyMzQ1Njc4OTAxM2Z/8bOrwpERW9Y2ck0g1fjNmXU9ENU0nokJbIP07nA5maKHBGHlSBFh"
GCM_AAD = "MDEyMzQ1Njc4OTAxM2Z/8bOrwpERW9Y2ck0g1fjNmXU9ENU0nom67XsjSMjSra1vAVJ2ZO3h"
CBC_VECTOR = "MDEyMzQ1Njc4OTAxMjM0NWvZ11atw+1uzYmoIyt5rAQVPyMK9ZDavskPw5hcayeT"
ALICE = b64encode(b"user:alice").decode()
# Of another implementation, with another secret.
OTHERS = "AAECAwQFBgcICQoLDA0OD41wf9vBqmJKPfy1LbewiUI96Lm2EKww57Pt4a0dOOIu"


def check(aid, now=MADE, secret=SECRET):
    AidCheck(Captcha(APP_ID, secret), once=False).check(aid, now)


def refused(aid, now=MADE):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  callers look at the message
        check(aid, now)
    return str(caught.value)


def cbc(plaintext, key=KEY, iv=bytes(16), padding=None):
    raw = plaintext.encode()
    count = 16 - len(raw) % 16
    padded = raw + (bytes([count]) * count if padding is None else padding)
    sealing = Cipher(AES(key), CBC(iv)).encryptor()
    return Aid(b64encode(iv + sealing.update(padded) + sealing.finalize()).decode(), "cbc", "")


@pytest.mark.parametrize(
    ("aid", "secret", "made"),
    [
        (Aid(CBC_VECTOR, "cbc", ""), SECRET, MADE),
        (Aid(GCM, "gcm", ""), SECRET, MADE),
        (Aid(GCM_AAD, "gcm", ALICE), SECRET, MADE),
        (Aid(OTHERS, "cbc", ""), "test-secret", 1783814400),
    ],
    ids=["CBC", "GCM", "GCM and AAD", "another's CBC"],
)
def test_the_vectors_are_good(aid, secret, made):
    check(aid, made, secret)


def test_a_value_lives_from_its_timestamp_through_its_ttl():
    aid = cbc(f"{APP_ID}&{MADE}&300")
    for now in (MADE, MADE + 300):
        check(aid, now)
    assert "in the future" in refused(aid, MADE - 1)
    assert "expired" in refused(aid, MADE + 301)


@pytest.mark.parametrize(
    ("plaintext", "message"),
    [
        (f"1&{MADE}&300", "for captcha 1, not for 123456789"),
        (f"{APP_ID}&{MADE}&0", "ttl is 0"),
        (f"{APP_ID}&{MADE}&86401", "ttl is 86401"),
        (f"{APP_ID}&{MADE}", "holds no"),
        (f"{APP_ID}&{MADE}&300&", "holds no"),
        (f"{APP_ID}& {MADE}&300", "holds no"),
        (f"{APP_ID}&-1&300", "holds no"),
        (f"{APP_ID}&{MADE}&\u0663\u0660\u0660", "holds no"),
        ("", "holds no"),
    ],
)
def test_what_it_says_has_to_be_right(plaintext, message):
    assert message in refused(cbc(plaintext))


ALTERED = b64encode(b64decode(GCM)[:-1] + b"x").decode()


NO_GOOD = {
    "none": (Aid("", "cbc", ""), "there is none"),
    "text": (Aid("no base64!", "cbc", ""), "no standard base64"),
    "URL-safe": (Aid(CBC_VECTOR.replace("+", "-"), "cbc", ""), "no standard base64"),
    "unpadded": (Aid(OTHERS[:43], "cbc", ""), "no standard base64"),
    "another type": (Aid(CBC_VECTOR, "ecb", ""), "has to be 'cbc' or 'gcm'"),
    "an IV alone": (Aid(b64encode(bytes(16)).decode(), "cbc", ""), "no IV and blocks"),
    "half a block": (Aid(b64encode(bytes(40)).decode(), "cbc", ""), "no IV and blocks"),
    "another key": (cbc(f"{APP_ID}&{MADE}&300", key=bytes(32)), "another key"),
    "bad padding": (cbc("x" * 15, padding=b"\0"), "another key, or altered"),
    "AAD kept back": (Aid(GCM_AAD, "gcm", ""), "another key or AAD"),
    "AAD made up": (Aid(GCM, "gcm", ALICE), "another key or AAD"),
    "an altered tag": (Aid(ALTERED, "gcm", ""), "another key or AAD"),
    "too short": (Aid(b64encode(bytes(3)).decode(), "gcm", ""), "another key or AAD"),
    "plain AAD": (Aid(GCM_AAD, "gcm", "user:alice"), "aidEncryptedAad is no standard base64"),
    "long AAD": (Aid(GCM_AAD, "gcm", "A" * 132), "aidEncryptedAad is over 128"),
    "CBC as GCM": (Aid(CBC_VECTOR, "gcm", ""), "another key or AAD"),
}


@pytest.mark.parametrize(("aid", "message"), NO_GOOD.values(), ids=NO_GOOD)
def test_what_is_no_good_is_refused_with_the_reason(aid, message):
    assert message in refused(aid)


@pytest.mark.parametrize("secret", ["s" * 16, "s" * 32, "s" * 40])
def test_a_secret_of_any_length_makes_a_key(secret):
    check(cbc(f"{APP_ID}&{MADE}&300", key=b"s" * 32), secret=secret)


def test_a_value_is_good_again_unless_it_is_good_once():
    aid = cbc(f"{APP_ID}&{MADE}&300")
    often, once = (AidCheck(Captcha(APP_ID, SECRET), once=once) for once in (False, True))
    often.check(aid, MADE)
    often.check(aid, MADE)
    once.check(aid, MADE)
    with pytest.raises(ValueError, match="used before"):
        once.check(aid, MADE + 300)
    once.check(cbc(f"{APP_ID}&{MADE}&300", iv=b"1" * 16), MADE)


def test_what_is_spent_is_forgotten_when_it_has_expired():
    once = AidCheck(Captcha(APP_ID, SECRET), once=True)
    once.check(cbc(f"{APP_ID}&{MADE}&300"), MADE)
    once.check(cbc(f"{APP_ID}&{MADE + 301}&300", iv=b"1" * 16), MADE + 301)
    assert len(once._seen) == 1


# The emulator.


def challenge(emulator, **options):
    async def post():
        transport = httpx.ASGITransport(emulator)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            said = {"script": "TJCaptcha.js", "appId": str(APP_ID), "options": options}
            return (await client.post("/__emulator__/challenge", json=said)).json()

    return asyncio.run(post())


def emulator(**settings):
    return TencentEmulator(app_id=APP_ID, app_secret_key=SECRET, clock=lambda: MADE, **settings)


def test_a_captcha_that_does_not_insist_reads_none():
    assert challenge(emulator())["outcome"] == "solve"
    assert challenge(emulator(), aidEncrypted="garbage")["outcome"] == "solve"


def test_a_captcha_that_insists_lets_nobody_go_without():
    insisting = emulator(check_app_id=True)
    insisting.challenge({"close": True})
    refused = challenge(insisting)
    assert (refused["outcome"], refused["errorCode"]) == ("error", 1006)
    assert "insists on aidEncrypted" in refused["errorMessage"]
    assert challenge(insisting, aidEncrypted=CBC_VECTOR)["outcome"] == "close"
    gcm = {"aidEncrypted": GCM_AAD, "aidEncryptedType": "gcm", "aidEncryptedAad": ALICE}
    assert challenge(insisting, **gcm)["outcome"] == "solve"
    assert challenge(insisting, **gcm)["outcome"] == "solve"


def test_a_captcha_may_take_each_value_once():
    insisting = emulator(check_app_id=True, one_time=True)
    outcomes = [challenge(insisting, aidEncrypted=CBC_VECTOR)["outcome"] for _ in range(2)]
    assert outcomes == ["solve", "error"]


@pytest.mark.parametrize("value", [None, 1, [], {}, {"a": 1}], ids=repr)
def test_a_value_of_another_type_is_refused_like_a_bad_one(value):
    refused = challenge(emulator(check_app_id=True), aidEncrypted=value)
    assert refused["errorCode"] == 1006


def test_once_without_insisting_is_a_mistake():
    with pytest.raises(ValueError, match="check_app_id=True"):
        emulator(one_time=True)


def test_cryptography_is_missed_when_it_is_made_and_only_where_it_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    emulator()
    with pytest.raises(ModuleNotFoundError, match="cryptography"):
        emulator(check_app_id=True)
