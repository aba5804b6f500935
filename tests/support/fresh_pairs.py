"""A new pair for each request, since a guard lets each be claimed once."""

from __future__ import annotations

from tcaptcha_middleware.testing import as_headers, fresh_pair


def pair() -> dict[str, str]:
    """Return the headers of a pair that no request had before."""
    return as_headers(fresh_pair())
