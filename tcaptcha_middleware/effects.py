"""What the walk asks the faces for, step by step. Holds values only: no I/O, no policy.

Neither frozen nor tuples: both cost more to make, and every check makes several.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.models import RequestInfo, Submission


@dataclass(slots=True, eq=False)
class ReadBody:
    """A step of the walk: fetch the body's next piece.

    Answered with the piece, and whether there is more.

    Attributes:
        timeout: How long the client may take for it, in seconds.
        may_disconnect: Whether its connection may be cut for that; not where the application
            gets the request whatever the decision, and may want the rest of the body.
    """

    timeout: float
    may_disconnect: bool


@dataclass(slots=True, eq=False)
class CallHook:
    """A step of the walk: put a question to a function of the application's own.

    Answered with what it returns; under ASGI it may be awaited.

    Attributes:
        question: The function.
        request: What it gets.
        timeout: How long it may be awaited, in seconds.
    """

    question: Callable[[RequestInfo], Any]
    request: RequestInfo
    timeout: float


@dataclass(slots=True, eq=False)
class Pause:
    """A step of the walk: wait.

    Attributes:
        seconds: How long.
    """

    seconds: float


@dataclass(slots=True, eq=False)
class Claim:
    """A step of the walk: claim a ticket. Answered with True for the first who does.

    Attributes:
        claims: The store.
        key: The hash that stands for the ticket.
        seconds: How long the claim holds.
        timeout: How long the store may be awaited, in seconds.
    """

    replay_store: Any
    key: str
    seconds: float
    timeout: float


@dataclass(slots=True, eq=False)
class Verify:
    """A step of the walk: have the verifier check the ticket. Answered with its `Verdict`.

    Attributes:
        verifier: The rule's verifier.
        ticket: The pair to check.
        timeout: How long the verifier may be awaited, in seconds.
    """

    verifier: Any
    ticket: Submission
    timeout: float


Effect = ReadBody | CallHook | Pause | Claim | Verify

T = TypeVar("T")
Flow = Generator[Effect, Any, T]
"""A part of the walk: yields steps, is sent their answers, and returns what it found."""
