"""Identify a ticket without revealing it: its hash, and the first characters of that."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Submission


def replay_key(ticket: Submission) -> str:
    """Return the key of the pair in a replay store: a hash."""
    # A lone surrogate must not raise.
    text = f"{ticket.ticket}\n{ticket.randstr}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()


def fingerprint(key: str) -> str:
    """Return the first characters of a replay key, for logs and events."""
    return key[:12]
