"""The emulator validates aidEncrypted: test vectors, and every kind of invalid value."""

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

APP_ID, SECRET, MADE = 123456789, "1234567891011121314151516", 1710144972
KEY = b"12345678910111213141515161234567"
GCM = "MDEyMzQ1Njc4OTAxM2Z/8bOrwpERW9Y2ck0g1fjNmXU9ENU0nokJbIP07nA5maKHBGHlSBFh"
GCM_AAD = "MDEyMzQ1Njc4OTAxM2Z/8bOrwpERW9Y2ck0g1fjNmXU9ENU0nom67XsjSMjSra1vAVJ2ZO3h"
CBC_VECTOR = "MDEyMzQ1Njc4OTAxMjM0NWvZ11atw+1uzYmoIyt5rAQVPyMK9ZDavskPw5hcayeT"
ALICE = b64encode(b"user:alice").decode()
# Made by another implementation, with another secret.
FOREIGN = "AAECAwQFBgcICQoLDA0OD41wf9vBqmJKPfy1LbewiUI96Lm2EKww57Pt4a0dOOIu"


class Captcha:
    """An emulator whose captcha requires aidEncrypted, at a time that tests may change."""

    def __init__(self, secret=SECRET, **settings):
        self.now = MADE
        self.emulator = TencentEmulator(
            app_id=APP_ID,
            app_secret_key=secret,
            clock=lambda: self.now,
            **{"check_app_id": True} | settings,
        )

    def challenge(self, **options):
        """Request a challenge as a page does; return the emulator's answer."""

        async def post():
            transport = httpx.ASGITransport(self.emulator)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                request = {"script": "TJCaptcha.js", "appId": str(APP_ID), "options": options}
                return (await client.post("/__emulator__/challenge", json=request)).json()

        return asyncio.run(post())


def outcome(options, now=MADE, secret=SECRET):
    captcha = Captcha(secret)
    captcha.now = now
    return captcha.challenge(**options)["outcome"]


def refusal(options, now=MADE):
    captcha = Captcha()
    captcha.now = now
    answer = captcha.challenge(**options)
    assert (answer["outcome"], answer["errorCode"]) == ("error", 1006)
    return answer["errorMessage"]


def cbc(text, **more):
    return {"aidEncrypted": text} | more


def gcm(text, aad=""):
    return {"aidEncrypted": text, "aidEncryptedType": "gcm", "aidEncryptedAad": aad}


def encrypt(plaintext, key=KEY, iv=bytes(16), padding=None):
    raw = plaintext.encode()
    count = 16 - len(raw) % 16
    padded = raw + (bytes([count]) * count if padding is None else padding)
    cipher = Cipher(AES(key), CBC(iv)).encryptor()
    return cbc(b64encode(iv + cipher.update(padded) + cipher.finalize()).decode())


@pytest.mark.parametrize(
    ("options", "secret", "now"),
    [
        (cbc(CBC_VECTOR), SECRET, MADE),
        (cbc(CBC_VECTOR, aidEncryptedType="cbc"), SECRET, MADE),
        (gcm(GCM), SECRET, MADE),
        (gcm(GCM_AAD, ALICE), SECRET, MADE),
        (cbc(FOREIGN), "test-secret", 1783814400),
    ],
    ids=["CBC by default", "CBC", "GCM", "GCM with AAD", "CBC of another implementation"],
)
def test_the_test_vectors_are_accepted(options, secret, now):
    assert outcome(options, now, secret) == "solve"


def test_a_value_is_valid_from_its_timestamp_until_its_ttl():
    options = encrypt(f"{APP_ID}&{MADE}&300")
    assert [outcome(options, now) for now in (MADE, MADE + 300)] == ["solve"] * 2
    assert "in the future" in refusal(options, MADE - 1)
    assert "expired" in refusal(options, MADE + 301)


@pytest.mark.parametrize(
    ("plaintext", "message"),
    [
        (f"1&{MADE}&300", "for captcha 1, not for 123456789"),
        (f"{APP_ID}&{MADE}&0", "must be 1 to 86400, got 0"),
        (f"{APP_ID}&{MADE}&86401", "must be 1 to 86400, got 86401"),
        (f"{APP_ID}&{MADE}", "must contain CaptchaAppId"),
        (f"{APP_ID}&{MADE}&300&", "must contain CaptchaAppId"),
        (f"{APP_ID}& {MADE}&300", "must contain CaptchaAppId"),
        (f"{APP_ID}&-1&300", "must contain CaptchaAppId"),
        (f"{APP_ID}&{MADE}&\u0663\u0660\u0660", "must contain CaptchaAppId"),
        ("", "must contain CaptchaAppId"),
    ],
)
def test_a_wrong_plaintext_is_refused(plaintext, message):
    assert message in refusal(encrypt(plaintext))


ALTERED = b64encode(b64decode(GCM)[:-1] + b"x").decode()
INVALID = {
    "missing": ({}, "requires aidEncrypted"),
    "null": (cbc(None), "requires aidEncrypted"),
    "empty": (cbc(""), "requires aidEncrypted"),
    "empty list": (cbc([]), "requires aidEncrypted"),
    "number": (cbc(1), "not standard base64"),
    "object": (cbc({"a": 1}), "not standard base64"),
    "text": (cbc("no base64!"), "not standard base64"),
    "URL-safe": (cbc(CBC_VECTOR.replace("+", "-")), "not standard base64"),
    "unpadded": (cbc(FOREIGN[:43]), "not standard base64"),
    "another type": (cbc(CBC_VECTOR, aidEncryptedType="ecb"), "must be 'cbc' or 'gcm'"),
    "only an IV": (cbc(b64encode(bytes(16)).decode()), "not an IV and blocks"),
    "incomplete block": (cbc(b64encode(bytes(40)).decode()), "not an IV and blocks"),
    "another key": (encrypt(f"{APP_ID}&{MADE}&300", key=bytes(32)), "another key"),
    "bad padding": (encrypt("x" * 15, padding=b"\0"), "another key, or was altered"),
    "AAD not sent": (gcm(GCM_AAD), "another key or AAD"),
    "AAD made up": (gcm(GCM, ALICE), "another key or AAD"),
    "altered tag": (gcm(ALTERED), "another key or AAD"),
    "too short": (gcm(b64encode(bytes(3)).decode()), "another key or AAD"),
    "plain AAD": (gcm(GCM_AAD, "user:alice"), "aidEncryptedAad is not standard base64"),
    "long AAD": (gcm(GCM_AAD, "A" * 132), "aidEncryptedAad is over 128"),
    "CBC as GCM": (gcm(CBC_VECTOR), "another key or AAD"),
}


@pytest.mark.parametrize(("options", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_value_is_refused_with_the_reason(options, message):
    assert message in refusal(options)


@pytest.mark.parametrize("secret", ["s" * 16, "s" * 32, "s" * 40])
def test_a_secret_of_any_length_makes_a_key(secret):
    options = encrypt(f"{APP_ID}&{MADE}&300", key=b"s" * 32)
    assert outcome(options, secret=secret) == "solve"


def test_a_captcha_without_check_app_id_ignores_the_value():
    captcha = Captcha(check_app_id=False)
    assert captcha.challenge()["outcome"] == "solve"
    assert captcha.challenge(aidEncrypted="garbage")["outcome"] == "solve"


def test_a_refused_challenge_takes_no_step():
    captcha = Captcha()
    captcha.emulator.challenge({"close": True})
    assert captcha.challenge()["outcome"] == "error"
    assert captcha.challenge(aidEncrypted=CBC_VECTOR)["outcome"] == "close"


def test_a_value_is_accepted_again_without_one_time():
    captcha = Captcha()
    options = gcm(GCM_AAD, ALICE)
    assert [captcha.challenge(**options)["outcome"] for _ in range(2)] == ["solve"] * 2


def test_a_value_is_accepted_once_with_one_time():
    captcha = Captcha(one_time=True)
    options = encrypt(f"{APP_ID}&{MADE}&300")
    assert captcha.challenge(**options)["outcome"] == "solve"
    captcha.now = MADE + 300
    assert "used before" in captcha.challenge(**options)["errorMessage"]
    another = encrypt(f"{APP_ID}&{MADE}&300", iv=b"1" * 16)
    assert captcha.challenge(**another)["outcome"] == "solve"


def test_a_used_value_is_forgotten_after_it_has_expired():
    captcha = Captcha(one_time=True)
    captcha.challenge(**encrypt(f"{APP_ID}&{MADE}&300"))
    captcha.now = MADE + 301
    later = encrypt(f"{APP_ID}&{MADE + 301}&300", iv=b"1" * 16)
    assert captcha.challenge(**later)["outcome"] == "solve"
    (check,) = captcha.emulator._challenges._checks.values()
    assert len(check._seen) == 1


def test_one_time_needs_check_app_id():
    with pytest.raises(ValueError, match="check_app_id=True"):
        TencentEmulator(one_time=True)


def test_cryptography_is_needed_at_construction_and_only_with_check_app_id(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    TencentEmulator()
    with pytest.raises(ModuleNotFoundError, match="cryptography"):
        TencentEmulator(check_app_id=True)
