"""`tcaptcha.js`, an ES module without dependencies, with its types, and what serves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MODULE = "tcaptcha.js"


def module_path() -> Path:
    """Return the path of `tcaptcha.js`, for a server of static files."""
    from pathlib import Path  # late: for guards with a page

    return Path(__file__).with_name(MODULE)
