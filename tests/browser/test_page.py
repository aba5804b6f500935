"""`Page` and `public_settings()`: validation, and what browsers get for which captcha."""

from __future__ import annotations

import json
import time

import pytest
from replay_stores import isolated_store

from tcaptcha_middleware import (
    CaptchaInfo,
    ConfigurationError,
    Guard,
    Page,
    Rule,
    TencentVerifier,
    csp_sources,
    in_thread,
    sources,
)
from tcaptcha_middleware.languages import MESSAGES
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM
from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.testing import FakeVerifier, TencentEmulator
from tcaptcha_middleware.testing.emulator._browser import AidEncryptedCheck

SCRIPT = "https://turing.captcha.qcloud.com/TJCaptcha.js"


class Nameless:
    """A verifier that does not declare its captcha."""

    def verify(self, ticket):
        raise AssertionError


class Shown(FakeVerifier):
    """A custom verifier whose captcha browsers can show."""

    def __init__(self, app_id=190000001, *, script=SCRIPT, **more):
        super().__init__()
        self.captcha = CaptchaInfo(app_id, script=script, **more)


def tencent(**settings):
    return TencentVerifier(**TencentEmulator().settings | settings)


BAD = {
    "no slash": ({"path": "tcaptcha"}, "write a plain path"),
    "a slash at the end": ({"path": "/tcaptcha/"}, "write a plain path"),
    "the top": ({"path": "/"}, "write a plain path"),
    "blank": ({"path": ""}, "write a plain path"),
    "an escape": ({"path": "/%61"}, "write a plain path"),
    "a pattern": ({"path": "/**"}, "write a plain path"),
    "a doubled slash": ({"path": "//evil.example"}, "write a plain path"),
    "a quote": ({"path": "/a'b"}, "write a plain path"),
    "not a string": ({"path": 1}, "write a plain path"),
    "a language with a blank": ({"language": "zh cn"}, 'write it as "zh-cn"'),
    "a language with markup": ({"language": '"><b'}, 'write it as "zh-cn"'),
    "a language that is too long": ({"language": "zh-" + "a" * 40}, 'write it as "zh-cn"'),
    "a language that is no text": ({"language": 1}, 'write it as "zh-cn"'),
    "another aid": ({"aid": "ecb"}, 'use "cbc", or None'),
    "aid as a switch": ({"aid": True}, 'use "cbc", or None'),
    "no time": ({"aid": "cbc", "aid_ttl": 0}, "above 0"),
    "more than a day": ({"aid": "cbc", "aid_ttl": 86_401}, "86400 seconds at most"),
}


@pytest.mark.parametrize(("settings", "fix"), BAD.values(), ids=BAD)
def test_invalid_settings_are_refused(settings, fix):
    with pytest.raises(ConfigurationError, match=fix):
        Page(**settings)


def test_the_longest_additional_data_that_tencent_allows_is_allowed():
    page = Page("/a/b", language="zh-Hans-CN", aid="cbc", aid_ttl=86_400)
    told = Guard(["/a"], tencent(), page=page).public_settings()
    assert (told["language"], len(told["aidEncrypted"])) == ("zh-cn", 64)


@pytest.mark.parametrize("page", [True, 1, object(), Page])
def test_a_guard_takes_a_path_or_a_page(page):
    with pytest.raises(ConfigurationError, match=r'write "/tcaptcha", or Page'):
        Guard(["/a"], tencent(), page=page)


def test_a_path_is_short_for_a_page():
    assert Guard(["/a"], tencent(), page="/c").page == Page("/c")


def test_without_a_page_nothing_is_served():
    guard = Guard(["POST /a"], FakeVerifier())
    for file in ("tcaptcha.js", "settings.json"):
        target = ("GET", f"/tcaptcha/{file}", b"", "", "")
        assert guard.route(target, {}, "tcaptcha") is None


UNSHOWN = {
    "no attribute": Nameless(),
    "a mini-program": FakeVerifier(action=MINI_PROGRAM),
    "no script": Shown(script=""),
    "no id": Shown(0),
    "no attribute, in a thread": in_thread(Nameless()),
}


@pytest.mark.parametrize("verifier", UNSHOWN.values(), ids=UNSHOWN)
def test_a_page_needs_a_captcha_that_browsers_can_show(verifier):
    with pytest.raises(ConfigurationError, match=r"set captcha=CaptchaInfo\(app_id, script="):
        Guard(["/a"], verifier, page="/tcaptcha", replay_store=isolated_store())
    with pytest.raises(ConfigurationError, match=r"set captcha=CaptchaInfo\(app_id, script="):
        Guard(["/a"], verifier, replay_store=isolated_store()).public_settings()
    with pytest.raises(ConfigurationError, match=r"set captcha=CaptchaInfo\(app_id, script="):
        csp_sources(verifier)


def test_a_custom_verifier_must_name_a_known_site():
    with pytest.raises(ConfigurationError, match="must be one of cn, intl"):
        Guard(["/a"], Shown(site="eu"), page="/tcaptcha")


def test_a_custom_verifier_must_name_a_script_url():
    with pytest.raises(ConfigurationError, match="use a whole URL"):
        Guard(["/a"], Shown(script="TJCaptcha.js"), page="/tcaptcha")


def test_aid_needs_a_verifier_that_knows_the_app_secret_key():
    with pytest.raises(ConfigurationError, match="set app_secret_key in the"):
        Guard(["/a", Rule("/b", verifier=Shown())], tencent(), page=Page(aid="cbc"))


def test_the_default_public_settings():
    assert Guard(["POST /login"], tencent()).public_settings() == {
        "appId": "190000000",
        "site": "cn",
        "script": SCRIPT,
        "headers": {"ticket": "X-Captcha-Ticket", "randstr": "X-Captcha-Randstr"},
        "fields": {"ticket": "ticket", "randstr": "randstr"},
        "messages": {"lang": "en", **MESSAGES["en"]},
    }


def test_public_settings_include_the_language_if_one_is_set():
    guard = Guard(["/a"], tencent(), page=Page(language="en"))
    assert guard.public_settings()["language"] == "en"
    settings = guard.public_settings(language="zh_HK")
    assert (settings["language"], settings["messages"]["lang"]) == ("zh-hk", "zh-tw")


def test_texts_of_public_settings_are_in_the_first_language_that_has_them():
    guard = Guard(["/a"], tencent(), page=Page(language="zh-TW"))
    settings = guard.public_settings(language="ja")
    assert (settings["language"], settings["messages"]["lang"]) == ("ja", "zh-tw")


SOURCES = {
    "headers of other names": ([sources.Header("T", "R")], ["T", "R"], None),
    "fields of other names": ([sources.Form("t", "r")], None, ["t", "r"]),
    "JSON alone": ([sources.Json()], None, None),
    "a function": ([sources.Head(lambda _: None)], None, None),
    "a query": ([sources.Query()], None, None),
    "the first of each": (
        [
            sources.Json(),
            sources.Header("A", "B"),
            sources.Form("c", "d"),
            sources.Header(),
            sources.Form(),
        ],
        ["A", "B"],
        ["c", "d"],
    ),
}


@pytest.mark.parametrize(("sources", "headers", "fields"), SOURCES.values(), ids=SOURCES)
def test_public_settings_name_the_headers_and_fields_of_the_rule_or_null(
    sources, headers, fields
):
    def named(pair):
        return None if pair is None else {"ticket": pair[0], "randstr": pair[1]}

    guard = Guard([Rule("/login", sources=sources)], tencent())
    settings = guard.public_settings("POST /login")
    assert (settings["headers"], settings["fields"]) == (named(headers), named(fields))


RULES = [
    Rule("POST /login", verifier=Shown(190000001)),
    Rule("GET /page/**", verifier=Shown(190000002, site="intl")),
    Rule("/mini", verifier=FakeVerifier(action=MINI_PROGRAM)),
    "/plain",
]
PICKED = {
    "POST /login": "190000001",
    "POST //login": "190000001",
    "POST /%6cogin": "190000001",
    "POST /login?next=/": "190000001",
    "POST /mount/login": "190000001",
    "GET /page/a b": "190000002",
    "HEAD /page": "190000002",
    "GET /plain": "190000000",
    # A text that matches no rule is treated like an empty one.
    "": "190000000",
    "GET /login": "190000000",
    "POST": "190000000",
    "/login": "190000000",
    "POST login": "190000000",
    "POST  /login": "190000000",
    "post /login": "190000000",
    "NONSENSE /login": "190000000",
    "POST https://evil.example/login": "190000000",
    "POST /login" + "/" * 2048: "190000000",
    "GET /free": "190000000",
    "\0 \ud800": "190000000",
}


@pytest.mark.parametrize(("for_", "app_id"), PICKED.items(), ids=ascii)
def test_the_next_request_determines_the_captcha(for_, app_id):
    guard = Guard(RULES, tencent(), page="/tcaptcha", replay_store=isolated_store())
    assert guard.public_settings(for_, "/mount")["appId"] == app_id


def test_the_error_names_a_rule_whose_captcha_no_browser_can_show():
    guard = Guard(RULES, tencent(), page="/tcaptcha", replay_store=isolated_store())
    with pytest.raises(ConfigurationError, match="the captcha of /mini"):
        guard.public_settings("GET /mini")


def test_aid_uses_the_captcha_of_the_rule():
    secret = "another-key-of-25-letters"
    other = tencent(app_id=190000009, app_secret_key=secret)
    page = Page(aid="cbc", aid_ttl=60)
    guard = Guard(["/a", Rule("/b", verifier=other)], tencent(), page=page)
    told = guard.public_settings("GET /b")
    check = AidEncryptedCheck(Captcha(190000009, secret), once=False).check
    check(told, time.time() + 59)
    with pytest.raises(ValueError, match="expired"):
        check(told, time.time() + 62)


def test_aid_is_created_for_every_response():
    guard = Guard(["/a"], tencent(), page=Page(aid="cbc"))
    told = [guard.public_settings() for _ in range(20)]
    assert len({one["aidEncrypted"] for one in told}) == 20


def test_a_custom_verifier_may_provide_the_app_secret_key():
    verifier = Shown(app_secret_key="some-secret-key-of-mine")
    guard = Guard(["/a"], verifier, page=Page(aid="cbc"))
    assert guard.public_settings()["aidEncrypted"]


def test_in_thread_keeps_the_captcha_of_its_verifier():
    guard = Guard(["/a"], in_thread(tencent(site="intl")), page=Page(aid="cbc"))
    settings = guard.public_settings()
    assert (settings["appId"], settings["site"]) == ("190000000", "intl")
    assert settings["aidEncrypted"]


@pytest.mark.parametrize("kind", [None, "cbc"])
def test_no_public_setting_and_no_repr_contains_a_secret(kind):
    settings = TencentEmulator().settings | {"token": "a-token-nobody-may-see"}
    verifier = TencentVerifier(**settings)
    guard = Guard(["POST /login"], verifier, page=Page(aid=kind))
    text = json.dumps(guard.public_settings("POST /login")) + repr(guard) + repr(verifier)
    hidden = [settings[name] for name in ("app_secret_key", "secret_id", "secret_key", "token")]
    assert [secret for secret in hidden if secret in text] == []


def test_a_pages_policy_allows_the_site_and_no_inline_script():
    cn, intl = csp_sources(tencent()), csp_sources(tencent(site="intl"))
    assert "https://turing.captcha.qcloud.com" in cn["script-src"]
    assert "https://ca.turing.captcha.qcloud.com" not in cn["script-src"]
    assert "https://ca.turing.captcha.qcloud.com" in intl["frame-src"]
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "data:", "https:"} & {
        *cn["script-src"]
    }


def test_a_pages_policy_allows_the_origin_of_another_script():
    directives = csp_sources(tencent(script="http://127.0.0.1:9000/TJCaptcha.js"))
    for name in ("script-src", "connect-src", "frame-src", "img-src"):
        assert "http://127.0.0.1:9000" in directives[name]
