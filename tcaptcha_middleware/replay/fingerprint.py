"""What a ticket is known by, where the ticket itself must not be: its hash, and a short one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Submission


def replay_key(ticket: Submission) -> str:
    """Return the hash that stands for the pair in a replay store."""
    # A lone surrogate is no ticket, and no error either.
    text = f"{ticket.ticket}\n{ticket.randstr}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()


def fingerprint(key: str) -> str:
    """Return what a ticket's decisions are found by: the beginning of its claim key."""
    return key[:12]
