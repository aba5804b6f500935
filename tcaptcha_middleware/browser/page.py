"""A page with the captcha: what it is, its settings for `tcaptcha.js`, and its policy.

Tencent does not publish what the Content-Security-Policy of such a page has to allow. Third
parties have found the sources below to work; a page with a stricter policy shows no captcha,
and reports what it blocked.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.sources import Form, Header
from tcaptcha_middleware.languages import is_language_tag
from tcaptcha_middleware.matching.paths import is_plain
from tcaptcha_middleware.tencent.aid_encrypted import MAX_TTL, fresh, require_cryptography
from tcaptcha_middleware.tencent.sites import SITES, origin_of
from tcaptcha_middleware.validation import captcha_of, validate_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.models import CaptchaInfo
    from tcaptcha_middleware.types import Verifier

Policy = dict[str, tuple[str, ...]]

_CHALLENGE = (
    "https://turing.captcha.gtimg.com",
    "https://global.turing.captcha.gtimg.com",
)
_FILES = "https://cloudcache.tencentcs.com"
_ELSEWHERE = "https://www.tycaptcha.com"
_RISK = "https://rce.tencentrio.com"


@dataclass(frozen=True, slots=True)
class Page:
    """What browsers are served: `tcaptcha.js`, its settings, and the challenge page.

    Args:
        path: The path below which they are served, as the application itself sees it.
        language: The language of the captcha and its texts, such as `"zh-TW"`; None for the
            page's language, or the visitor's.
        aid: `"cbc"` sends `aidEncrypted` with the settings, for captchas whose console demands
            it. Needs the extra `aid`.
        aid_ttl: How long such a value is valid, in seconds.

    Raises:
        ConfigurationError: If a value is not valid; the message says which, and the fix.
    """

    path: str = "/tcaptcha"
    _: KW_ONLY
    language: str | None = None
    aid: Literal["cbc"] | None = None
    aid_ttl: int = 600

    def __post_init__(self) -> None:
        """Validate every value."""
        path: object = self.path
        is_safe = isinstance(path, str) and is_plain(path) and not set("*$&'") & set(path)
        if not is_safe or self.path[-1:] in ("", "/"):
            raise ConfigurationError(
                f"page is {path!r}: write a plain path without a slash at its end, such as "
                '"/tcaptcha"'
            )
        if self.language is not None and not is_language_tag(self.language):
            raise ConfigurationError(
                f'language is {self.language!r}: write it as "zh-cn" or "en"'
            )
        validate_count("aid_ttl", self.aid_ttl)
        if self.aid_ttl > MAX_TTL:
            raise ConfigurationError(
                f"aid_ttl is {self.aid_ttl}: Tencent allows {MAX_TTL} seconds at most"
            )
        if self.aid is not None:
            if self.aid != "cbc":
                raise ConfigurationError(f'aid is {self.aid!r}: use "cbc", or None')
            require_cryptography()


def as_page(value: object) -> Page | None:
    """Return a page from its path, or as it is.

    Raises:
        ConfigurationError: If it is neither, and not None.
    """
    if value is None or isinstance(value, Page):
        return value
    if isinstance(value, str):
        return Page(value)
    raise ConfigurationError(f'page is {value!r}: write "/tcaptcha", or Page("/tcaptcha")')


def shown_captcha(verifier: Verifier) -> CaptchaInfo | None:
    """Return the captcha of a verifier, or None if no browser can show it.

    Raises:
        ConfigurationError: If what the verifier declares is not valid.
    """
    captcha = captcha_of(verifier)
    if not captcha.app_id or not captcha.script or not captcha.has_randstr:
        return None
    origin_of(captcha.script)
    return captcha


def static_settings(
    captcha: CaptchaInfo, page: Page, sources: Sequence[Source]
) -> dict[str, Any]:
    """Return the settings for a captcha, except those that are new for each answer.

    Args:
        captcha: The captcha.
        page: The page's settings.
        sources: The places that may contain the pair.

    Raises:
        ConfigurationError: If the page needs `aidEncrypted` and the secret is unknown.
    """
    if page.aid is not None and not captcha.app_secret_key:
        raise ConfigurationError(
            f"aid needs the AppSecretKey of {captcha.app_id}: set app_secret_key in the "
            "verifier's CaptchaInfo, as TencentVerifier does"
        )
    return {
        "appId": str(captcha.app_id),
        "site": captcha.site,
        "script": captcha.script,
        "headers": _names(sources, Header),
        "fields": _names(sources, Form),
    }


def _names(sources: Sequence[Source], kind: type[Header | Form]) -> dict[str, str] | None:
    first = next((source for source in sources if isinstance(source, kind)), None)
    return None if first is None else {"ticket": first.ticket, "randstr": first.randstr}


def fresh_settings(captcha: CaptchaInfo, page: Page) -> dict[str, str]:
    """Return the settings that may be valid for one use."""
    if page.aid is None or not captcha.app_secret_key:
        return {}
    return {"aidEncrypted": fresh(captcha, page.aid_ttl)}


def csp_sources(verifier: Verifier) -> Policy:
    """Return the additional sources that a page with the captcha needs, by directive.

    Third parties found them; Tencent does not guarantee them. Scripts do not need
    `'unsafe-inline'`, styles do. A page that restricts Trusted Types has to allow the policy
    `tcaptcha` too (`trusted-types tcaptcha`).

    Args:
        verifier: Verifies the tickets; it has the site and the script.

    Raises:
        ConfigurationError: If a browser cannot show its captcha.
    """
    captcha = shown_captcha(verifier)
    if captcha is None:
        raise ConfigurationError(
            f"{type(verifier).__name__} declares no captcha that a browser can "
            "show: set captcha=CaptchaInfo(app_id, script=…)"
        )
    return sources_of(captcha)


def sources_of(captcha: CaptchaInfo) -> Policy:
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


def policy_of(captcha: CaptchaInfo, nonce: str) -> str:
    """Return the policy of a page that does nothing but show the captcha.

    Args:
        captcha: The captcha.
        nonce: Marks the page's own script; new for each answer.
    """
    sources = sources_of(captcha)
    own = {
        "script-src": (f"'nonce-{nonce}'",),
        "connect-src": ("'self'",),
        "img-src": ("'self'",),  # the site's icon, which Firefox loads for each page
    }
    allowed = {name: (*own.get(name, ()), *sources[name]) for name in sources}
    # Without frame-ancestors: in a frame, the page says so, and shows no captcha.
    nothing = ("default-src", "base-uri", "form-action")
    every = dict.fromkeys(nothing, ("'none'",)) | allowed
    return "; ".join(f"{name} {' '.join(values)}" for name, values in every.items())
