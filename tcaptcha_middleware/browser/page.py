"""`Page`: what a guard serves to browsers, and how."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.matching.paths import is_plain
from tcaptcha_middleware.tencent.aid_encrypted import (
    KINDS,
    MAX_AAD,
    MAX_TTL,
    require_cryptography,
)
from tcaptcha_middleware.validation import check_count, check_word

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.aid_encrypted import Kind

# As in `navigator.language`, which Tencent's `userLanguage` follows.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")


@dataclass(frozen=True, slots=True)
class Page:
    """What browsers are served: `tcaptcha.js`, its settings, and the challenge page.

    Args:
        path: The path below which they are served, as the application itself sees it.
        language: The captcha's language, such as `"zh-cn"`; None for the page's language.
        aid: `"cbc"` or `"gcm"` sends `aidEncrypted` with the settings, for captchas whose
            console demands it. Needs the extra `aid`.
        aid_ttl: How long such a value is valid, in seconds.
        aid_aad: Additional data of a `"gcm"` value, at most 96 bytes.

    Raises:
        ConfigurationError: If a value is not valid; the message says which, and the fix.
    """

    path: str = "/tcaptcha"
    _: KW_ONLY
    language: str | None = None
    aid: Kind | None = None
    aid_ttl: int = 600
    aid_aad: bytes = b""

    def __post_init__(self) -> None:
        """Validate every value."""
        _check_path(self.path)
        if self.language is not None and not _LANGUAGE.fullmatch(str(self.language)):
            raise ConfigurationError(
                f'language is {self.language!r}: write it as "zh-cn" or "en"'
            )
        check_count("aid_ttl", self.aid_ttl)
        if self.aid_ttl > MAX_TTL:
            raise ConfigurationError(
                f"aid_ttl is {self.aid_ttl}: Tencent allows {MAX_TTL} seconds at most"
            )
        _check_aad(self.aid_aad)
        if self.aid_aad and self.aid != "gcm":
            raise ConfigurationError('aid_aad needs aid="gcm"')
        if self.aid is not None:
            check_word("aid", self.aid, tuple(KINDS))
            require_cryptography()


def _check_path(path: object) -> None:
    good = isinstance(path, str) and is_plain(path) and path and not path.endswith("/")
    if not good or any(mark in str(path) for mark in "*$&'"):
        raise ConfigurationError(
            f"page is {path!r}: write a plain path without a slash at its end, such as "
            '"/tcaptcha"'
        )


def _check_aad(data: object) -> None:
    if not isinstance(data, bytes) or len(data) > MAX_AAD:
        raise ConfigurationError(
            f"aid_aad has to be at most {MAX_AAD} bytes, which are 128 characters in base64"
        )


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
