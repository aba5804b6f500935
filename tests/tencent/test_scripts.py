"""Which client script a verifier names for pages."""

from __future__ import annotations

import pytest

from tcaptcha_middleware import ConfigurationError, TencentVerifier
from tcaptcha_middleware.tencent.sites import origin_of
from tcaptcha_middleware.testing import TencentEmulator

CN, INTL = "https://turing.captcha.qcloud.com", "https://ca.turing.captcha.qcloud.com"
GOOD = [
    ("cn", None, f"{CN}/TJCaptcha.js"),
    ("cn", "TJCaptcha.js", f"{CN}/TJCaptcha.js"),
    ("cn", "TCaptcha.js", f"{CN}/TCaptcha.js"),
    ("intl", None, f"{INTL}/TJNCaptcha-global.js"),
    ("intl", "TJNCaptcha-global.js", f"{INTL}/TJNCaptcha-global.js"),
    ("intl", "TCaptcha-global.js", f"{INTL}/TCaptcha-global.js"),
    *(
        ("cn", url, url)
        for url in (
            "https://example.com/TJCaptcha.js",
            "https://example.com:8443/a/b.js?v=1",
            "http://127.0.0.1:9000/TJCaptcha.js",
            "http://127.8.8.8/TJCaptcha.js",
            "http://[::1]:9000/TJCaptcha.js",
            "http://localhost:9000/TJCaptcha.js",
            "http://captcha.localhost/TJCaptcha.js",
            "/TJCaptcha.js",
            "./emulator/TJCaptcha.js?v=1",
            "../emulator/TJCaptcha.js",
        )
    ),
]
BAD = {
    "the international site's": ("cn", "TCaptcha-global.js", "use TJCaptcha.js or"),
    "the Chinese site's": ("intl", "TJCaptcha.js", "use TJNCaptcha-global.js or"),
    "an unknown name": ("cn", "Captcha.js", "use a whole URL"),
    "blank": ("cn", "", "use a whole URL"),
    "without a path": ("cn", "https://example.com", "use a whole URL"),
    "another scheme": ("cn", "data:text/javascript,1", "use a whole URL"),
    "relative to nothing": ("cn", "emulator/TJCaptcha.js", "use a whole URL"),
    "a relative one that ends a source": ("cn", "/a;b.js", "use a whole URL"),
    "no scheme": ("cn", "//example.com/a.js", "use a whole URL"),
    "a user": ("cn", "https://user@example.com/a.js", "use a whole URL"),
    "what ends a source": ("cn", "https://example.com/a;b.js", "use a whole URL"),
    "a blank within": ("cn", "https://example.com/a b.js", "use a whole URL"),
    "a line break": ("cn", "https://example.com/a.js\n", "use a whole URL"),
    "a number": ("cn", 1, "use a whole URL"),
    "port 0": ("cn", "https://example.com:0/a.js", "use a whole URL"),
    "port 65536": ("cn", "https://example.com:65536/a.js", "use a whole URL"),
    "unencrypted": ("cn", "http://example.com/a.js", "use https"),
    "nearly loopback": ("cn", "http://127.0.0.1.example.com/a.js", "use https"),
    "no such site": ("eu", None, 'it is "cn" or "intl"'),
}


def verifier(**settings):
    return TencentVerifier(**TencentEmulator().settings | settings)


@pytest.mark.parametrize(("site", "script", "url"), GOOD)
def test_a_script_is_a_known_name_or_a_url(site, script, url):
    assert verifier(site=site, script=script).captcha.script == url


@pytest.mark.parametrize(("site", "script", "fix"), BAD.values(), ids=BAD)
def test_an_invalid_script_is_refused(site, script, fix):
    with pytest.raises(ConfigurationError, match=fix):
        verifier(site=site, script=script)


def test_the_environment_names_the_script():
    settings = TencentEmulator().settings
    environ = {
        "TENCENTCLOUD_SECRET_ID": settings["secret_id"],
        "TENCENTCLOUD_SECRET_KEY": settings["secret_key"],
        "TCAPTCHA_APP_ID": str(settings["app_id"]),
        "TCAPTCHA_APP_SECRET_KEY": settings["app_secret_key"],
        "TCAPTCHA_SCRIPT": "TCaptcha.js",
    }
    assert TencentVerifier.from_env(environ).captcha.script == f"{CN}/TCaptcha.js"


@pytest.mark.parametrize(
    ("script", "origin"),
    [
        (f"{CN}/TJCaptcha.js", CN),
        ("https://Example.com:8443/a.js", "https://example.com:8443"),
        ("http://[::1]:9000/a.js", "http://[::1]:9000"),
        ("/a.js", "'self'"),
        ("../a.js", "'self'"),
    ],
)
def test_the_origin_of_a_script_is_a_csp_source(script, origin):
    assert origin_of(script) == origin
