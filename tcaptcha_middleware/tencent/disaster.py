"""Disaster tickets: what a page makes up when Tencent's script does not work. No proof at all.

https://cloud.tencent.com/document/product/1110/72310
"""

from __future__ import annotations

import re

# Both spellings are in the wild, and copied snippets drop an underscore.
_ANY = re.compile(r"tr?error", re.IGNORECASE)
_STANDARD = re.compile(r"tr?error_[0-9]{3,5}_(?P<app_id>[0-9]{1,20})_(?P<made>[0-9]{9,11})")

FRESH = 5 * 60
"""How old one may be where it is accepted at all, in seconds; as long as a real ticket."""


def is_disaster(ticket: str) -> bool:
    """Tell whether `ticket` was made by the page because Tencent's script did not work."""
    return _ANY.match(ticket) is not None


def is_credible(ticket: str, app_id: int, now: float) -> bool:
    """Tell whether it is as documented, of this captcha, and fresh; anybody can type one.

    Args:
        ticket: The ticket.
        app_id: CaptchaAppId of the captcha that guards the endpoint.
        now: Unix seconds.
    """
    standard = _STANDARD.fullmatch(ticket)
    if standard is None or int(standard["app_id"]) != app_id:
        return False
    return abs(now - int(standard["made"])) <= FRESH
