"""`tcaptcha.js`, an ES module without dependencies, with its types, and what serves it."""

from __future__ import annotations

from pathlib import Path

MODULE = "tcaptcha.js"


def module_path() -> Path:
    """Return the path of `tcaptcha.js`, for a server of static files."""
    return Path(__file__).with_name(MODULE)
