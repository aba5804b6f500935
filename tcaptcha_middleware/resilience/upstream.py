"""One verifier's health, shared by every rule that asks it: whether it may be called now.

Knows the errors and the breaker; makes no call itself.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tcaptcha_middleware.effects import Pause
from tcaptcha_middleware.errors import OutageError, ThrottledError, VerifierError
from tcaptcha_middleware.resilience.limits import Breaker, Bulkhead

if TYPE_CHECKING:
    from tcaptcha_middleware.effects import Flow

FAILURES = 5
"""How many outages in a row open the breaker."""
PAUSE = 10.0
"""How long the breaker stays open before one call is tried, in seconds."""
QUEUE = 0.5
"""How long a check waits for a place among those under way, in seconds."""
_GLANCE = 0.01


class Upstream:
    """Who may call a verifier, and when: `with upstream:` is one call.

    Args:
        limit: How many checks may be under way at once.

    Attributes:
        places: A place for each of these.
    """

    def __init__(self, limit: int) -> None:
        self.places: Bulkhead = Bulkhead(limit)
        self._breaker = Breaker(FAILURES, PAUSE)

    @property
    def is_down(self) -> bool:
        """Whether our own calls say so: the only proof of an outage that no client can make."""
        return self._breaker.is_open

    @property
    def wants_probe(self) -> bool:
        """Whether it is down, and may be asked whether it still is."""
        return self.is_down and not self._breaker.blocks(time.monotonic())

    def queue(self) -> Flow[None]:
        """Wait for a place, briefly, and take it.

        Raises:
            ThrottledError: Too many checks are under way.
        """
        deadline = time.monotonic() + QUEUE
        while not self.places.enter():
            if time.monotonic() > deadline:
                raise ThrottledError("too many checks at once")
            yield Pause(_GLANCE)

    def check(self) -> None:
        """Look whether a call may be made now.

        Raises:
            OutageError: It is down, and not to be called now.
        """
        if self._breaker.blocks(time.monotonic()):
            raise _not_called()

    def __enter__(self) -> None:
        """Begin one call.

        Raises:
            OutageError: It is down, and not to be called now.
        """
        if not self._breaker.admits(time.monotonic()):
            raise _not_called()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Learn from how the call ended."""
        if isinstance(error, OutageError):
            self._breaker.failed(time.monotonic())
        elif error is None or (isinstance(error, VerifierError) and error.answered):
            # It answered, so that it is up: a revoked key must not look like an outage.
            self._breaker.succeeded()


def _not_called() -> OutageError:
    return OutageError(f"not called, because {FAILURES} calls in a row failed")
