"""What became of each request at the gate, kept so that the page can show it.

Learned where any user of the package may listen: a verifier, a replay store and an `on_event`
of one's own, and the ASGI message that starts the answer. Tickets are shortened before they
are kept.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.replay.memory import MemoryReplayStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.asgi import App, Message, Receive, Scope, Send
    from tcaptcha_middleware.models import Allow, Submission, Verdict
    from tcaptcha_middleware.operations.events import Event
    from tcaptcha_middleware.testing.emulator import TencentEmulator

_REMEMBERED = 200
_SHOWN = 12


@dataclass(slots=True)
class Journey:
    """One request, from its head to its answer; filled in as it goes.

    Attributes:
        method: Its method.
        path: Its path.
        peer: The host of the connection's other end.
        names: The names of its headers, in lower case.
        number: What it is found by; 0 while the gate has decided nothing.
        status: The answer's status; 0 while there is none.
        first: Whether its ticket was claimed for the first time; None where none was claimed.
        asked: What Tencent was asked, without secrets; empty where it was not.
        reached: Whether Tencent is known to have got the call; None where nobody can tell.
        failure: Why Tencent gave no verdict.
        handled: What the handler was told by `decision`; None where it was not called.
    """

    method: str
    path: str
    peer: str
    names: frozenset[str]
    number: int = 0
    status: int = 0
    first: bool | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    reached: bool | None = None
    failure: str = ""
    handled: Allow | None = None


class Journal:
    """Keeps the last 200 journeys.

    Args:
        emulator: The Tencent whose calls can be looked at; None where it is the real one.

    Attributes:
        claims: The store that a guard had better use.
        before_call: Called before each call to Tencent.
        after_decision: Called after each decision of the gate.
    """

    def __init__(self, emulator: TencentEmulator | None = None) -> None:
        self._emulator = emulator
        self._numbers = itertools.count(1)
        self._under_way: ContextVar[Journey] = ContextVar("journey")
        self._kept: OrderedDict[int, tuple[Journey, Event]] = OrderedDict()
        self.replay_store: MemoryReplayStore = _ReplayStore(self)
        self.before_call: list[Callable[[], None]] = []
        self.after_decision: list[Callable[[], None]] = []

    def __getitem__(self, number: int) -> tuple[Journey, Event]:
        """Return a journey and what was decided; raises KeyError where it is none."""
        return self._kept[number]

    @property
    def current(self) -> Journey:
        """The journey of the request that is being served; raises LookupError without one."""
        return self._under_way.get()

    def begin(self, journey: Journey) -> None:
        """Note in `journey` whatever happens to this request from here on."""
        self._under_way.set(journey)

    def decided(self, event: Event) -> None:
        """Be a guard's `on_event`."""
        if event.decision is None:  # a change of the service's health
            return
        journey = self.current
        journey.number = next(self._numbers)
        self._kept[journey.number] = journey, event
        if len(self._kept) > _REMEMBERED:
            self._kept.popitem(last=False)
        for call in self.after_decision:
            call()

    def asks(self, verifier: Any) -> Any:
        """Return a verifier that asks `verifier`, with `averify`, and notes what it says."""
        return _Verifier(self, verifier)

    def note_call(self, app_id: int, ticket: Submission) -> None:
        """Note what Tencent was asked; as it says itself, where it can be looked at."""
        journey = self.current
        journey.asked = {
            "CaptchaAppId": app_id,
            "Ticket": shortened(ticket.ticket),
            "Randstr": ticket.randstr,
            "UserIp": ticket.user_ip,
        }
        if self._emulator is not None:
            calls = reversed(self._emulator.calls)
            got = next((call for call in calls if call["Ticket"] == ticket.ticket), None)
            journey.reached = got is not None
            journey.asked = {
                name: value if got is None or name == "Ticket" else got[name]
                for name, value in journey.asked.items()
            }


def shortened(ticket: str) -> str:
    """Return what may be shown of a ticket."""
    return f"{ticket[:_SHOWN]}…" if len(ticket) > _SHOWN else ticket


class Journaling:
    """The outermost middleware: opens a journey for each request, and tells its number.

    Args:
        app: The application with its gate.
        journal: Where journeys are kept.
    """

    def __init__(self, app: App, journal: Journal) -> None:
        self._app = app
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        journey = _begun(scope)
        self._journal.begin(journey)

        async def numbering(message: Message) -> None:
            if message["type"] == "http.response.start" and journey.number:
                journey.status = message["status"]
                number = (b"x-trace", str(journey.number).encode())
                message["headers"] = [*message["headers"], number]
            await send(message)

        await self._app(scope, receive, numbering)


def _begun(scope: Scope) -> Journey:
    names = frozenset(name.decode("latin-1") for name, _ in scope["headers"])
    peer = (scope.get("client") or ("unknown",))[0]
    return Journey(scope["method"], scope["path"], peer, names)


class _ReplayStore(MemoryReplayStore):
    """The default store, which notes what it answered."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    async def aclaim(self, key: str, token: str, seconds: float) -> bool:
        first = await super().aclaim(key, token, seconds)
        self._journal.current.first = first
        return first


class _Verifier:
    """A verifier in front of another; whatever else that one tells, this one does, too."""

    def __init__(self, journal: Journal, verifier: Any) -> None:
        self._journal = journal
        self._verifier = verifier

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verifier, name)

    async def averify(self, ticket: Submission) -> Verdict:
        for call in self._journal.before_call:
            call()
        try:
            verdict: Verdict = await self._verifier.averify(ticket)
        except Exception as error:
            self._journal.current.failure = f"{type(error).__name__}: {error}"
            raise
        finally:
            self._journal.note_call(self._verifier.app_id, ticket)
        return verdict
