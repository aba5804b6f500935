"""The routes by which the page has its emulator misbehave. Offline only.

What is said of the challenge and of the script holds for the next one. What is said of
Tencent's API is handed on just before the call, so that no call that is never made leaves it
behind for a later one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

    from tcaptcha_middleware.testing.emulator import TencentEmulator

# Solved without being shown: one press of a button shows one failure.
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


class Steering:
    """Steers one emulator.

    Args:
        emulator: The demo's own.
    """

    def __init__(self, emulator: TencentEmulator) -> None:
        self._emulator = emulator
        self._calls: list[dict[str, Any]] = []
        self.routes: list[Route] = [Route("/steer/{order}", self._steer, methods=["POST"])]

    def hand_on(self) -> None:
        """Tell the emulator how the call goes that is made now."""
        self._emulator.script(*self._calls)
        self.forget()

    def forget(self) -> None:
        """Forget a call that was not made."""
        self._calls.clear()

    async def _steer(self, request: Request) -> Response:
        order = request.path_params["order"]
        if order not in _CHALLENGES | _LOADS:
            return Response(status_code=404)
        self._calls = [_CALLS[order]] if order in _CALLS else []
        if order in _CHALLENGES:
            self._emulator.challenge(_CHALLENGES[order])
        else:
            self._emulator.load(_LOADS[order])
        return Response(status_code=204)
