"""The stand-in for Tencent's script: where it is, and how loading it goes."""

from __future__ import annotations

from collections import deque
from importlib.resources import files
from typing import Any

from tcaptcha_middleware.testing.emulator._control import check_load
from tcaptcha_middleware.testing.emulator._http import Answer, in_json

PATHS = ("/TJCaptcha.js", "/TCaptcha.js", "/TJNCaptcha-global.js", "/TCaptcha-global.js")
"""Where Tencent has its scripts: the two of the domestic site, then the international ones."""

_THROWS_NOWHERE = 'const THROWS_IN = "";'

# Public, as Tencent's is, also to pages that isolate themselves; and fetched for each page,
# so that each step counts.
_PUBLIC = (
    ("access-control-allow-origin", "*"),
    ("cross-origin-resource-policy", "cross-origin"),
    ("cache-control", "no-store"),
)


class Script:
    """The script, and how the next loads of it go."""

    def __init__(self) -> None:
        here = files("tcaptcha_middleware.testing.emulator")
        self._source = here.joinpath("TencentCaptcha.js").read_text(encoding="utf-8")
        self._steps: deque[dict[str, Any]] = deque()

    def script(self, *steps: dict[str, Any]) -> None:
        """Say how the next loads go; see `TencentEmulator.load`."""
        self._steps.extend([check_load(step) for step in steps])

    def answer(self, method: str) -> Answer:
        """Return the answer to a request for one of `PATHS`; only a GET is a load."""
        if method not in ("GET", "HEAD"):
            return in_json(405, {"error": "GET it"})._replace(allow="GET, HEAD")
        step = self._steps.popleft() if method == "GET" and self._steps else {}
        return self._loaded(step)._replace(latency=step.get("latency", 0), headers=_PUBLIC)

    def _loaded(self, step: dict[str, Any]) -> Answer:
        if "status" in step:
            return Answer(step["status"], b"<html>", "text/html")
        source = self._source
        if "broken" in step:
            source = source[: len(source) // 2]
        elif "throw" in step:
            source = source.replace(_THROWS_NOWHERE, f'const THROWS_IN = "{step["throw"]}";')
        return Answer(200, source.encode(), "text/javascript; charset=utf-8")
