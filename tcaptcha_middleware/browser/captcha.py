"""A captcha as a browser sees it, and the settings for `tcaptcha.js`."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.extraction.sources import Form, Header
from tcaptcha_middleware.tencent.aid_encrypted import fresh
from tcaptcha_middleware.tencent.credentials import Captcha
from tcaptcha_middleware.tencent.sites import origin_of
from tcaptcha_middleware.validation import captcha_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tcaptcha_middleware.browser.page import Page
    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.types import Verifier


@dataclass(frozen=True, slots=True)
class BrowserCaptcha:
    """A captcha that a browser can show.

    Attributes:
        app_id: CaptchaAppId.
        site: `"cn"` or `"intl"`.
        script: The URL of the client script.
        secret: CaptchaAppId and AppSecretKey, if the verifier has them; never sent.
    """

    app_id: int
    site: str
    script: str
    secret: Captcha | None = field(default=None, repr=False)

    @classmethod
    def of(cls, verifier: Verifier) -> BrowserCaptcha | None:
        """Return the captcha of a verifier, or None if no browser can show it.

        Raises:
            ConfigurationError: If the verifier's site or script is not valid.
        """
        captcha = captcha_of(verifier)
        if not captcha.app_id or not captcha.script or not captcha.has_randstr:
            return None
        origin_of(captcha.script)
        secret = captcha.app_secret_key
        pair = Captcha(captcha.app_id, secret) if secret else None
        return cls(captcha.app_id, captcha.site, captcha.script, pair)


def static_settings(
    captcha: BrowserCaptcha, page: Page, sources: Sequence[Source]
) -> dict[str, Any]:
    """Return the settings for a captcha, except those that are new for each answer.

    Args:
        captcha: The captcha.
        page: The page's settings.
        sources: The places that may contain the pair.

    Raises:
        ConfigurationError: If the page needs `aidEncrypted` and the secret is unknown.
    """
    if page.aid is not None and captcha.secret is None:
        raise ConfigurationError(
            f"aid needs the AppSecretKey of {captcha.app_id}: set app_secret_key in the "
            "verifier's CaptchaInfo, as TencentVerifier does"
        )
    settings = {
        "appId": str(captcha.app_id),
        "site": captcha.site,
        "script": captcha.script,
        "headers": _names(sources, Header),
        "fields": _names(sources, Form),
    }
    return settings if page.language is None else settings | {"language": page.language}


def _names(sources: Sequence[Source], kind: type[Header | Form]) -> dict[str, str] | None:
    first = next((source for source in sources if isinstance(source, kind)), None)
    return None if first is None else {"ticket": first.ticket, "randstr": first.randstr}


def fresh_settings(captcha: BrowserCaptcha, page: Page) -> dict[str, str]:
    """Return the settings that may be valid for one use."""
    if page.aid is None or captcha.secret is None:
        return {}
    settings = {
        "aidEncrypted": fresh(captcha.secret, page.aid, page.aid_ttl, page.aid_aad),
        "aidEncryptedType": page.aid,
    }
    aad = b64encode(page.aid_aad).decode("ascii")
    return settings | {"aidEncryptedAad": aad} if aad else settings
