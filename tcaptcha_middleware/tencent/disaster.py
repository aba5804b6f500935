"""Disaster tickets: made by the page if Tencent's script does not work, and proof of nothing.

The gate's own probe sends one too: Tencent answers it with code 21 and does not bill it.

https://cloud.tencent.com/document/product/1110/72310
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import MisconfiguredError, ThrottledError
from tcaptcha_middleware.models import Submission

if TYPE_CHECKING:
    from collections.abc import Iterator

# Both spellings are in the wild, and copied snippets drop an underscore.
_ANY = re.compile(r"tr?error", re.IGNORECASE)
_STANDARD = r"tr?error_[0-9]{3,5}_(?P<app_id>[0-9]{1,20})_(?P<made>[0-9]{9,11})"

FRESH = 5 * 60
"""How old one may be to be accepted, in seconds; as long as a real ticket."""


def is_disaster(ticket: str) -> bool:
    """Return whether `ticket` was made by the page because Tencent's script did not work."""
    return _ANY.match(ticket) is not None


def is_credible(ticket: str, app_id: int, now: float) -> bool:
    """Return whether it is as documented, for this captcha, and fresh; anyone can type one.

    Args:
        ticket: The ticket.
        app_id: CaptchaAppId of the captcha that guards the endpoint.
        now: Unix seconds.
    """
    standard = re.fullmatch(_STANDARD, ticket)
    if standard is None or int(standard["app_id"]) != app_id:
        return False
    return abs(now - int(standard["made"])) <= FRESH


def probe_submission(app_id: int) -> Submission:
    """Return what a probe verifies: a fresh disaster ticket for `app_id`."""
    return Submission(f"trerror_1001_{app_id}_{int(time.time())}", "@probe", "127.0.0.1")


@contextmanager
def answer_expected() -> Iterator[None]:
    """Suppress errors that only an answer of Tencent can cause, such as a wrong key."""
    try:
        yield
    except (MisconfiguredError, ThrottledError) as error:
        if not error.answered:
            raise
