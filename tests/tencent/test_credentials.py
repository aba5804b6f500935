"""The two pairs of secrets: swapped, blank or badly pasted ones are refused by name."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest

from tcaptcha_middleware import ConfigurationError, TencentVerifier
from tcaptcha_middleware.tencent.actions import WEB
from tcaptcha_middleware.tencent.api import CallWriter
from tcaptcha_middleware.tencent.credentials import Captcha, Credentials
from tcaptcha_middleware.verifiers.api_key import api_key
from tcaptcha_middleware.waiting import run

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.credentials import CredentialProvider

SECRETS = {
    "secret_id": "AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA",
    "secret_key": "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
    "app_id": "198765432",
    "app_secret_key": "E4kwK9AcXQMHkktiItyMEyQPn",
}
TOKEN = "kx0cFQ7RkLz2mC4vTgWb9hYpUeNdSa1o"
NAMES = ("secret_id", "secret_key", "app_secret_key", "token")


def make(**other: object) -> TencentVerifier:
    return TencentVerifier(**(SECRETS | {"token": TOKEN} | other))


def refusal(**other: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make(**other)
    message = str(caught.value)
    assert not any(secret in message for secret in (*SECRETS.values(), TOKEN))
    return message


@pytest.mark.parametrize("start", ["AKID", "IKID"])
def test_valid_secrets_are_accepted(start):
    assert make(secret_id=f"{start}z8krbsJ5yKBZQpn74WFk").captcha.app_id == 198765432


ORDERS = [
    order
    for order in itertools.permutations(SECRETS)
    # An AppSecretKey looks just like a SecretKey.
    if order[0] != "secret_id" or order[2] != "app_id"
]


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_swapped_secrets_are_refused(order):
    refusal(**dict(zip(SECRETS, (SECRETS[name] for name in order), strict=True)))


def test_only_the_two_plausible_orders_of_secrets_are_accepted():
    assert len(ORDERS) == 24 - 2


SWAPPED = {
    "secret_id and secret_key": (
        lambda: Credentials(SECRETS["secret_key"], SECRETS["secret_id"]),
        "secret_id and secret_key are swapped",
    ),
    "app_id for secret_id": (
        lambda: Credentials(SECRETS["app_id"], SECRETS["app_secret_key"]),
        "captcha's app_id or app_secret_key",
    ),
    "app_secret_key for secret_id": (
        lambda: Credentials(SECRETS["app_secret_key"], SECRETS["secret_key"]),
        "captcha's app_id or app_secret_key",
    ),
    "secret_id for app_id": (
        lambda: Captcha.of(SECRETS["secret_id"], SECRETS["secret_key"]),
        "app_id holds a SecretId",
    ),
    "secret_id for app_secret_key": (
        lambda: Captcha.of(SECRETS["app_id"], SECRETS["secret_id"]),
        "app_secret_key holds a SecretId",
    ),
    "secret_key for app_id": (
        lambda: Captcha.of(SECRETS["secret_key"], SECRETS["app_secret_key"]),
        "app_id is not a whole number above 0",
    ),
    "app_secret_key for app_id": (
        lambda: Captcha.of(SECRETS["app_secret_key"], SECRETS["app_id"]),
        "app_id is not a whole number above 0",
    ),
}


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("secret_id", "pass secret_id=, or credentials="),
        ("secret_key", "pass secret_key=, or credentials="),
        ("app_secret_key", "pass app_secret_key="),
    ],
)
def test_a_missing_value_is_refused_with_its_argument(name, fix):
    assert refusal(**{name: None}) == f"{name} is missing: {fix}"


def test_the_same_secret_for_both_settings_is_refused():
    assert "are the same" in refusal(app_secret_key=SECRETS["secret_key"])
    assert "are the same" in refusal(secret_key=SECRETS["app_secret_key"])


@pytest.mark.parametrize(("swapped", "message"), SWAPPED.values(), ids=SWAPPED)
def test_the_error_names_the_secret_that_was_swapped(swapped, message):
    with pytest.raises(ConfigurationError) as caught:
        swapped()
    assert message in str(caught.value)


BLANK = {
    "empty": "",
    "a blank": " ",
    "a line break": "\n",
    "an ideographic blank": "\u3000",
    "a number": 198765432,
    "bytes": b"AKIDz8krbsJ5yKBZQpn74WFk",
}


@pytest.mark.parametrize("value", BLANK.values(), ids=BLANK)
@pytest.mark.parametrize("name", ["secret_key", "app_secret_key"])
def test_a_blank_secret_is_refused_by_name(name, value):
    assert refusal(**{name: value}).startswith(f"{name} is blank")


@pytest.mark.parametrize("value", ["", " "], ids=repr)
def test_a_blank_secret_id_is_refused_by_name(value):
    assert refusal(secret_id=value).startswith("secret_id is blank")


PASTED = {
    "a line break after": "%s\n",
    "a blank before": " %s",
    "a tab after": "%s\t",
    "a blank within": "AKID %s",
    "a line break within": "AKID\r\nX-Forged: %s",
    "a NUL": "%s\0",
    "a zero-width blank": "\u200b%s",
    "a byte order mark": "\ufeff%s",
    "a no-break blank": "%s\xa0",
    "quotes of a word processor": "\u201c%s\u201d",
    "a full-width letter": "%s\uff21",
    "a note in Chinese": "你的%s",
}


@pytest.mark.parametrize("pasted", PASTED.values(), ids=PASTED)
@pytest.mark.parametrize("name", NAMES)
def test_a_badly_pasted_secret_is_refused_by_name(name, pasted):
    value = pasted % (SECRETS | {"token": TOKEN})[name]
    message = refusal(**{name: value})
    assert message.startswith(f"{name} has blanks, control characters or letters beyond ASCII")


@pytest.mark.parametrize("quoted", ["'%s'", '"%s"', "'%s\n'"])
@pytest.mark.parametrize("name", NAMES)
def test_a_secret_in_quotes_is_refused_by_name(name, quoted):
    value = quoted % (SECRETS | {"token": TOKEN})[name]
    assert refusal(**{name: value}) == f"{name} is in quotes: remove them"


PLACEHOLDERS = [
    "AKIDxxxxxxxx",
    "AKID********",
    "IKIDxxxx",
    "AKIDEXAMPLE",
    "xxx",
    "XXXX",
    "***",
    "...",
    "<secret>",
    "${SECRET_KEY}",
    "{{secret}}",
    "your-secret-key",
    "YOUR_SECRET",
    "my_secret_key",
    "change-me",
    "CHANGEME",
    "todo",
    "dummy",
    "placeholder",
    "example",
    "secret",
    "None",
    "null",
    "undefined",
]


@pytest.mark.parametrize("value", PLACEHOLDERS)
@pytest.mark.parametrize("name", NAMES)
def test_a_placeholder_is_refused_by_name(name, value):
    assert refusal(**{name: value}).startswith(f"{name} is still a placeholder")


REAL = [
    "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
    "xJ4todo8secretPq86cd98joQYCN3zzz",
    "exampleOfARealKey",
]


@pytest.mark.parametrize("value", REAL)
def test_a_secret_that_contains_a_placeholder_word_is_accepted(value):
    assert Credentials(SECRETS["secret_id"], value).secret_key == value


NO_NUMBER = {
    "empty": "",
    "a blank": " ",
    "zero": 0,
    "zero as text": "0",
    "zeros": "000",
    "negative": -1,
    "negative as text": "-1",
    "True": True,
    "False": False,
    "a fraction": 198765432.0,
    "a fraction as text": "198765432.0",
    "text": "captcha",
    "hexadecimal": "0xbd8eb78",
    "a blank within": "198 765 432",
    "underscores": "198_765_432",
    "Arabic digits": "١٩٩",
    "a superscript": "²",
    "None": None,
    "bytes": b"198765432",
    "a list": [198765432],
}


@pytest.mark.parametrize("value", NO_NUMBER.values(), ids=NO_NUMBER)
def test_an_app_id_that_is_not_a_number_is_refused(value):
    assert refusal(app_id=value).startswith("app_id is not a whole number above 0")
    with pytest.raises(ConfigurationError, match="app_id is not a whole number above 0"):
        Captcha(value, SECRETS["app_secret_key"])


@pytest.mark.parametrize(
    "value", [198765432, "198765432", " 198765432\n", "0198765432"], ids=repr
)
@pytest.mark.parametrize("construct", [Captcha, Captcha.of], ids=["class", "of"])
def test_an_app_id_as_text_becomes_the_number_that_is_sent(construct, value):
    app_id = construct(value, SECRETS["app_secret_key"]).app_id
    assert type(app_id) is int
    assert app_id == 198765432


def test_no_secret_is_shown():
    credentials = Credentials(SECRETS["secret_id"], SECRETS["secret_key"], TOKEN)
    captcha = Captcha.of(SECRETS["app_id"], SECRETS["app_secret_key"])
    shown = f"{credentials!r} {credentials} {captcha!r} {captcha} {make()!r}"
    assert SECRETS["secret_id"] in shown
    assert SECRETS["app_id"] in shown
    for name in ("secret_key", "app_secret_key"):
        assert SECRETS[name] not in shown
    assert TOKEN not in shown


@pytest.mark.parametrize("token", [None, ""], ids=repr)
def test_a_permanent_key_has_no_token(token):
    credentials = Credentials(SECRETS["secret_id"], SECRETS["secret_key"], token)
    assert not credentials.get_credential_info()[2]


class Rotating:
    """The response of a metadata service, whose format is not guaranteed."""

    def __init__(self):
        self.turn = 0

    def get_credential_info(self):
        self.turn += 1
        return f"temporary-{self.turn}", "key", f"token-{self.turn}"


def sent(provider: CredentialProvider) -> dict[str, str]:
    key = provider.get_credential_info()
    captcha = Captcha(123456789, "1234567891011121314151516")
    return CallWriter(captcha, WEB, "h").headers(key, b"", 1551113065)


def test_any_credentials_provider_can_sign():
    provider = Rotating()
    for turn in (1, 2):
        assert f"Credential=temporary-{turn}/" in sent(provider)["Authorization"]
    assert sent(provider)["X-TC-Token"] == "token-3"


def test_a_key_from_a_provider_is_not_validated_at_construction():
    assert make(
        secret_id=None, secret_key=None, token=None, credentials=Rotating()
    ).captcha.app_id


@pytest.mark.parametrize("provider", [{"secret_id": "AKID"}, "AKID"], ids=repr)
def test_a_provider_without_a_key_is_refused(provider):
    message = refusal(secret_id=None, secret_key=None, token=None, credentials=provider)
    assert "get_credential_info" in message


def test_the_official_sdks_environment_credential_is_read(monkeypatch):
    credential = pytest.importorskip("tencentcloud.common.credential")
    monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", SECRETS["secret_id"])
    monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", SECRETS["secret_key"])
    theirs = credential.EnvironmentVariableCredential()
    verifier = make(secret_id=None, secret_key=None, token=None, credentials=theirs)
    key = run(api_key(verifier._credentials, 5.0), time.monotonic() + 5)
    assert key == (SECRETS["secret_id"], SECRETS["secret_key"], None)


def test_the_official_sdks_credentials_return_the_same_key():
    credential = pytest.importorskip("tencentcloud.common.credential")
    key = SECRETS["secret_id"], SECRETS["secret_key"], TOKEN
    ours, theirs = Credentials(*key), credential.Credential(*key)
    assert tuple(theirs.get_credential_info()) == ours.get_credential_info() == key
    assert sent(theirs) == sent(ours)
