"""The processor time that imports add to bare Python, each in a new interpreter.

Processor time, because others may use the machine; on a quiet one the clock says the same.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import TYPE_CHECKING

from measure import Budget, Figures, Row, interleaved

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 9
_OURS = "ours, with TencentVerifier, built"
_MILLI = 1000
_CODE = {
    "bare": "pass",
    "ours, the package": "import tcaptcha_middleware",
    "ours, guard and ASGI adapter": "from tcaptcha_middleware import Guard, TCaptchaMiddleware",
    _OURS: "from tcaptcha_middleware import "
    "Guard, TCaptchaMiddleware, TencentVerifier; "
    "verifier = TencentVerifier(1, 'captchaSecret', 'AKID' + 'a' * 32, 'keySecret'); "
    "TCaptchaMiddleware(print, Guard(['POST /login'], verifier))",
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
    budget = Budget(150, 150, added["httpx"], "httpx")
    yield Row("import, over bare Python", "ms", added, _OURS, budget)


class _Take:
    """Seconds of processor time for one interpreter to run one line."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __call__(self) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", self._code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        return user + system
