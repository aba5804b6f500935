"""`aidEncrypted`, compared with values of other implementations."""

from __future__ import annotations

import sys
import time
from base64 import b64decode
from functools import partial

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st

from tcaptcha_middleware import ConfigurationError, Page
from tcaptcha_middleware.tencent import aid_encrypted as aid
from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.testing.emulator._browser import AidEncryptedCheck

SECRET = "1234567891011121314151516"
PLAIN = aid.plaintext(123456789, timestamp=1710144972, ttl=86400)
CAPTCHA = Captcha(123456789, SECRET)


def test_the_plaintext_is_three_numbers():
    assert PLAIN == b"123456789&1710144972&86400"


def test_cbc_of_tencents_own_sample():
    assert (
        aid.cbc(SECRET, PLAIN, iv=b"0123456789012345")
        == "MDEyMzQ1Njc4OTAxMjM0NWvZ11atw+1uzYmoIyt5rAQVPyMK9ZDavskPw5hcayeT"
    )


def test_cbc_of_another_implementation():
    plain = aid.plaintext(123456789, timestamp=1783814400, ttl=300)
    assert (
        aid.cbc("test-secret", plain, iv=bytes(range(16)))
        == "AAECAwQFBgcICQoLDA0OD41wf9vBqmJKPfy1LbewiUI96Lm2EKww57Pt4a0dOOIu"
    )


KEYS = {
    "of 25, as Tencent's sample": (SECRET, b"12345678910111213141515161234567"),
    "of 1": ("a", b"a" * 32),
    "of 16": ("0123456789abcdef", b"0123456789abcdef" * 2),
    "of 11, more than twice": ("test-secret", b"test-secrettest-secrettest-secre"),
    "of 32": ("0123456789abcdef" * 2, b"0123456789abcdef" * 2),
    "of 33, cut off": ("0123456789abcdef" * 2 + "x", b"0123456789abcdef" * 2),
}


@pytest.mark.parametrize(("secret", "key"), KEYS.values(), ids=KEYS)
def test_a_key_is_repeated_to_32_bytes(secret, key):
    assert aid.key(secret) == key


@given(
    st.integers(1, 10**12),
    st.text("&0123456789", max_size=40),
    st.binary(min_size=16, max_size=16),
)
def test_every_cbc_value_decrypts_to_its_plaintext(app_id, more, iv):
    plain = aid.plaintext(app_id, timestamp=1, ttl=1) + more.encode()
    assert opened(aid.cbc(SECRET, plain, iv=iv)) == (iv, plain)


def opened(value):
    raw = b64decode(value, validate=True)
    decryptor = Cipher(AES256(aid.key(SECRET)), CBC(raw[:16])).decryptor()
    padded = decryptor.update(raw[16:]) + decryptor.finalize()
    return raw[:16], padded[: -padded[-1]]


LIFETIMES = {1: 61, 300: 360, 86_340: 86_400, 86_341: 86_400, 86_400: 86_400}


@pytest.mark.parametrize(("ttl", "lifetime"), LIFETIMES.items(), ids=str)
def test_a_fresh_value_is_backdated_by_a_minute_and_valid_longer(monkeypatch, ttl, lifetime):
    monkeypatch.setattr(time, "time", lambda: 1710144974.9)
    assert opened(aid.fresh(CAPTCHA, ttl))[1] == b"123456789&1710144914&%d" % lifetime


@pytest.mark.parametrize(
    ("ahead", "after", "error"),
    [
        (3, 0, None),
        (59, 0, None),
        (-3, 0, None),
        (62, 0, "in the future"),
        (0, 300, None),
        (-3, 290, None),
        (0, 302, "expired"),
    ],
    ids=str,
)
def test_the_emulator_accepts_a_value_of_a_clock_that_is_ahead(
    monkeypatch, ahead, after, error
):
    now = 1710144974.0
    monkeypatch.setattr(time, "time", lambda: now + ahead)
    value = aid.fresh(CAPTCHA, 300)
    monkeypatch.setattr(time, "time", lambda: pytest.fail("the check has a clock"))
    options = {"aidEncrypted": value}
    check = partial(AidEncryptedCheck(CAPTCHA, once=False).check, options, now + after)
    if error is None:
        check()
    else:
        with pytest.raises(ValueError, match=error):
            check()


def test_no_two_fresh_values_are_alike():
    assert len({aid.fresh(CAPTCHA, 300) for _ in range(50)}) == 50


def test_without_the_extra_a_page_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tcaptcha-middleware\[aid\]'"):
        Page(aid="cbc")
    assert Page().aid is None
