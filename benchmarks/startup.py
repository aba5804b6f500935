"""The time that an import adds to bare Python, each in a new interpreter."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from measure import Budget, Figures, Row, interleaved

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 9
_MILLI = 1000
_CODE = {
    "bare": "pass",
    "ours, the package": "import tcaptcha_middleware",
    "ours, guard and ASGI adapter": "from tcaptcha_middleware import Guard, TCaptchaMiddleware",
    "ours, with TencentVerifier": "from tcaptcha_middleware import "
    "Guard, TCaptchaMiddleware, TencentVerifier",
    "httpx": "import httpx",
    "SDK": "from tencentcloud.captcha.v20190722 import captcha_client",
    "SDK async": "from tencentcloud.captcha.v20190722 import captcha_client_async",
}


def rows() -> Iterator[Row]:
    """Measure all."""
    rounds = interleaved({name: _Take(code) for name, code in _CODE.items()}, ROUNDS)
    figures = {n: Figures(tuple(_MILLI * v for v in values)) for n, values in rounds.items()}
    base = figures.pop("bare")
    added = {name: each.minus(base) for name, each in figures.items()}
    budget = Budget(40, 86, added["httpx"], "httpx")
    yield Row("import, over bare Python", "ms", added, "ours, the package", budget)


class _Take:
    """Seconds for one interpreter to run one line."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __call__(self) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", self._code], check=True)
        return time.perf_counter() - began
