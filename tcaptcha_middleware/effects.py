"""What the decision flow asks its adapter to do. Values only: no I/O, no policy.

Neither frozen nor tuples: both cost more to make, and every protected request makes several.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.health.limits import Slots
    from tcaptcha_middleware.models import RequestInfo, Submission


@dataclass(slots=True, eq=False)
class ReadBody:
    """Read the next piece of the body. The result is the piece, and whether more follows.

    Attributes:
        timeout: How long the client may take for it, in seconds.
        may_disconnect: Whether the connection of a slow client may be cut. False if the
            application gets the request in any case and may want the rest of the body.
    """

    timeout: float
    may_disconnect: bool


@dataclass(slots=True, eq=False)
class CallHook:
    """Call a function of the application. The result is what it returns.

    Attributes:
        hook: The function; under ASGI it may be async.
        request: Its argument.
        timeout: How long it may be awaited, in seconds.
    """

    hook: Callable[[RequestInfo], Any]
    request: RequestInfo
    timeout: float


@dataclass(slots=True, eq=False)
class WaitForSlot:
    """Wait for a verification slot. The result is whether one was taken.

    Attributes:
        slots: The verifier's slots.
        timeout: How long to wait, in seconds.
    """

    slots: Slots
    timeout: float


@dataclass(slots=True, eq=False)
class Claim:
    """Claim a ticket in the replay store. The result is True for the first claim.

    Attributes:
        store: The replay store.
        key: The hash that identifies the ticket.
        token: Identifies this claim, so only its owner can release it.
        seconds: How long the claim lasts.
        timeout: How long the store may be awaited, in seconds.
    """

    store: Any
    key: str
    token: str
    seconds: float
    timeout: float


@dataclass(slots=True, eq=False)
class Release:
    """Drop a claim, because its ticket was not sent or can never pass.

    Attributes:
        store: The replay store.
        key: The hash that identifies the ticket.
        token: The token it was claimed with.
        timeout: How long the store may be awaited, in seconds.
    """

    store: Any
    key: str
    token: str
    timeout: float


@dataclass(slots=True, eq=False)
class Verify:
    """Call the verifier. The result is its `Verdict`.

    Attributes:
        verifier: The rule's verifier.
        submission: The pair and the visitor's address.
        timeout: How long the verifier may be awaited, in seconds.
    """

    verifier: Any
    submission: Submission
    timeout: float


Effect = ReadBody | CallHook | WaitForSlot | Claim | Release | Verify

T = TypeVar("T")
Flow = Generator[Effect, Any, T]
"""Yields effects, is sent their results or thrown their exceptions, and returns `T`."""
