"""Pairs of ticket and randstr for requests in tests."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from tcaptcha_middleware.extraction.sources import Header

if TYPE_CHECKING:
    from collections.abc import Mapping


def fresh_pair() -> dict[str, str]:
    """Return a made-up `{"ticket": …, "randstr": …}`, another one at each call.

    For a `FakeVerifier`. Only the emulator's own tickets pass there: use its `mint`.
    """
    return {
        "ticket": f"tr03{secrets.token_urlsafe(16)}*",
        "randstr": f"@{secrets.token_hex(2)}",
    }


def as_headers(pair: Mapping[str, str]) -> dict[str, str]:
    """Return a pair as the request headers that a guard reads by default.

    Args:
        pair: What `fresh_pair` or the emulator's `mint` returned.
    """
    names = Header()
    headers = {names.ticket: pair["ticket"], names.randstr: pair.get("randstr", "")}
    return {name: value for name, value in headers.items() if value}
