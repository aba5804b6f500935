"""What the Content-Security-Policy of a page with the captcha has to allow.

Tencent does not publish such a list. Third parties have found these sources to work; a page
with a stricter policy shows no captcha, and reports what it blocked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcaptcha_middleware.browser.captcha import BrowserCaptcha
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.tencent.sites import SITES, origin_of

if TYPE_CHECKING:
    from tcaptcha_middleware.types import Verifier

Policy = dict[str, tuple[str, ...]]

_CHALLENGE = (
    "https://turing.captcha.gtimg.com",
    "https://global.turing.captcha.gtimg.com",
)
_FILES = "https://cloudcache.tencentcs.com"
_ELSEWHERE = "https://www.tycaptcha.com"
_RISK = "https://rce.tencentrio.com"


def csp_sources(verifier: Verifier) -> Policy:
    """Return the additional sources that a page with the captcha needs, by directive.

    Third parties found them; Tencent does not guarantee them. Scripts do not need
    `'unsafe-inline'`, styles do.

    Args:
        verifier: Verifies the tickets; it has the site and the script.

    Raises:
        ConfigurationError: If a browser cannot show its captcha.
    """
    captcha = BrowserCaptcha.of(verifier)
    if captcha is None:
        raise ConfigurationError(
            f"{type(verifier).__name__} declares no captcha that a browser can "
            "show: set captcha=CaptchaInfo(app_id, script=…)"
        )
    return sources_of(captcha)


def sources_of(captcha: BrowserCaptcha) -> Policy:
    """Return the same as `csp_sources`."""
    shown = dict.fromkeys(map(origin_of, (SITES[captcha.site].script, captcha.script)))
    return {
        "script-src": (*shown, *_CHALLENGE, _FILES),
        "style-src": ("'unsafe-inline'",),
        "img-src": (*shown, "https://*.captcha.gtimg.com", "https://*.qcloud.com", "data:"),
        "connect-src": (*shown, *_CHALLENGE, _FILES, _ELSEWHERE, _RISK),
        "frame-src": (*shown, *_CHALLENGE, _ELSEWHERE),
        "worker-src": ("blob:",),
    }


def policy_of(captcha: BrowserCaptcha, nonce: str) -> str:
    """Return the policy of a page that does nothing but show the captcha.

    Args:
        captcha: The captcha.
        nonce: Marks the page's own script; new for each answer.
    """
    sources = sources_of(captcha)
    own = {"script-src": (f"'nonce-{nonce}'",), "connect-src": ("'self'",)}
    allowed = {name: (*own.get(name, ()), *sources[name]) for name in sources}
    nothing = ("default-src", "base-uri", "form-action", "frame-ancestors")
    every = dict.fromkeys(nothing, ("'none'",)) | allowed
    return "; ".join(f"{name} {' '.join(values)}" for name, values in every.items())
