"""Routes by which the page makes the demo's emulator fail. Not served with a real account.

A failure of a challenge or of the script applies to the next one. A failure of Tencent's API
is set just before the call; otherwise a request without a call would leave it to a later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from tcaptcha_middleware.testing.emulator import TencentEmulator

# Most are solved without being shown, so one button shows one failure.
_CHALLENGES: dict[str, dict[str, Any]] = {
    "replayed": {"skip": True},
    "expired": {"skip": True, "ticket": {"age": 301}},
    "forged": {"skip": True, "ticket": {"code": 15}},
    "foreign": {"skip": True, "ticket": {"app_id": 1}},
    "malicious": {"skip": True, "ticket": {"evil_level": 100}},
    "risky": {"skip": True, "ticket": {"code": 21}},
    "down": {"skip": True},
    "throttled": {"skip": True},
    "closed": {"close": True},
    "broken": {"error": 1001},
}
_CALLS: dict[str, dict[str, Any]] = {
    "down": {"status": 503},
    "throttled": {"error": "RequestLimitExceeded"},
}
_LOADS = {"unloadable": {"status": 503}}


class Failures:
    """The failures of one emulator.

    Args:
        emulator: The demo's emulator.
    """

    def __init__(self, emulator: TencentEmulator) -> None:
        self._emulator = emulator
        self._calls: list[dict[str, Any]] = []
        self.routes: list[Route] = [Route("/failures/{name}", self._prepare, methods=["POST"])]

    def apply(self) -> None:
        """Make the call fail that is about to be made."""
        self._emulator.script(*self._calls)
        self.clear()

    def clear(self) -> None:
        """Drop the failure of a call that was not made."""
        self._calls.clear()

    async def _prepare(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _CHALLENGES | _LOADS:
            return Response(status_code=404)
        self._calls = [_CALLS[name]] if name in _CALLS else []
        if name in _CHALLENGES:
            self._emulator.challenge(_CHALLENGES[name])
        else:
            self._emulator.load(_LOADS[name])
        return Response(status_code=204)
