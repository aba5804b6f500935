"""An outage that the gate has established, without waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tcaptcha_middleware import OutageError
from tcaptcha_middleware.health.health import Health
from tcaptcha_middleware.health.monitor import State

if TYPE_CHECKING:
    from tcaptcha_middleware import Guard


class Clock:
    """A stopped clock, and the threads that would have run probes."""

    now = 1000.0

    def __init__(self) -> None:
        self.probing: list[object] = []

    def __call__(self) -> float:
        return self.now


def bring(guard: Guard, state: str) -> Clock:
    """Set the health of each verifier of a guard to `state`, with a stopped clock."""
    clock = Clock()
    healths: dict[int, Health] = {}
    for rule in guard._rules:
        health = healths.get(id(rule.verifier))
        if health is None:
            health = healths[id(rule.verifier)] = Health(
                rule.verifier,
                rule.shared.max_checks,
                clock=clock,
                start_thread=clock.probing.append,
            )
        object.__setattr__(rule, "health", health)
    for health in healths.values():
        if state == State.UP:
            continue
        with pytest.raises(OutageError), health.verification:
            raise OutageError("down")
        if state == State.DOWN:
            verifier = health._verifier
            was_up, verifier.is_up = verifier.is_up, False
            for _ in range(2):
                health.probe_now()
                clock.now += 1.0
            verifier.is_up = was_up
        assert health.state == state
    return clock
