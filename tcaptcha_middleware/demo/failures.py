"""Routes by which the page makes the demo's emulator fail. Not served with a real account.

A failure of a challenge or of the script applies to the next one. A failure of a call is set
just before the call; otherwise a request without a call would leave it to a later one. An
outage ends with the first decision after the gate has established it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import httpx
from starlette.responses import Response
from starlette.routing import Route

from tcaptcha_middleware.health.monitor import State

if TYPE_CHECKING:
    from starlette.requests import Request

    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.testing.emulator import TencentEmulator

# Most are solved without being shown, so one button shows one failure.
_CHALLENGES: dict[str, dict[str, Any]] = {
    "replayed": {"skip": True},
    "expired": {"skip": True, "ticket": {"age": 301}},
    "forged": {"skip": True, "ticket": {"code": 15}},
    "foreign": {"skip": True, "ticket": {"app_id": 1}},
    "malicious": {"skip": True, "ticket": {"evil_level": 100}},
    "risky": {"skip": True, "ticket": {"code": 21}},
    "unanswered": {"skip": True},
    "down": {"skip": True},
    "throttled": {"skip": True},
    "closed": {"close": True},
    "broken": {"error": 1001},
}
_CALLS: dict[str, dict[str, Any]] = {
    "unanswered": {"status": 503},
    "throttled": {"error": "RequestLimitExceeded"},
}
_LOADS = {"unloadable": {"status": 503}}

_POLL = 0.05
"""Seconds between two looks at the gate's health."""
_PATIENCE = 10.0
"""Seconds to wait for it; the gate's probes need about two."""


class Failures:
    """The failures of one emulator.

    Args:
        emulator: The demo's emulator.
        guard: The guard whose verifier calls it.
    """

    def __init__(self, emulator: TencentEmulator, guard: Guard) -> None:
        self._emulator = emulator
        self._guard = guard
        self._calls: list[dict[str, Any]] = []
        self._is_outage = False
        self.routes: list[Route] = [
            Route("/failures/over", self._wait_until_up, methods=["POST"]),
            Route("/failures/{name}", self._prepare, methods=["POST"]),
        ]

    def apply(self) -> None:
        """Make the call fail that is about to be made."""
        self._emulator.script(*self._calls)
        self._calls.clear()

    def clear(self) -> None:
        """Drop the failure of a call that was not made, and end an established outage."""
        self._calls.clear()
        if self._is_outage:
            self._is_outage, self._emulator.is_up = False, True

    async def _prepare(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _CHALLENGES | _LOADS:
            return Response(status_code=404)
        self._calls = [_CALLS[name]] if name in _CALLS else []
        if name in _CHALLENGES:
            self._emulator.challenge(_CHALLENGES[name])
        else:
            self._emulator.load(_LOADS[name])
        if name == "down":
            await self._begin_outage(request)
        return Response(status_code=204)

    async def _begin_outage(self, request: Request) -> None:
        # Only a failed verification makes the gate send probes, so a visitor is made up too.
        self._emulator.is_up = False
        pair = self._emulator.mint()
        headers = {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}
        transport = httpx.ASGITransport(request.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://demo") as visitor:
            await visitor.post("/login", headers=headers)
        await self._wait_for(State.DOWN)
        self._is_outage = True

    async def _wait_until_up(self, _: Request) -> Response:
        await self._wait_for(State.UP)
        return Response(status_code=204)

    async def _wait_for(self, state: State) -> None:
        with anyio.move_on_after(_PATIENCE):
            # Another thread probes.
            while set(self._guard.health.values()) != {state}:  # noqa: ASYNC110
                await anyio.sleep(_POLL)
