"""Tencent as the tests of an application see it: emulated, and renewed for each test."""

from __future__ import annotations

import gc
import re
import time
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.health.monitor import APART
from tcaptcha_middleware.rules import CompiledRule
from tcaptcha_middleware.tencent.disaster import is_disaster
from tcaptcha_middleware.testing.emulator import TencentEmulator
from tcaptcha_middleware.testing.emulator._calls import MAX_CALL
from tcaptcha_middleware.testing.emulator._http import read_body
from tcaptcha_middleware.testing.pairs import as_headers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from tcaptcha_middleware.asgi import Message, Receive, Scope, Send
    from tcaptcha_middleware.health.health import Health

_CODES = {"passed": 1, "expired": 8, "reused": 9, "rejected": 15, "risk": 21}
_PROBE = re.compile(rb'"Ticket": ?"tr?error')


class EmulatedTencent:
    """An emulator that is renewed for each test, as an ASGI application.

    The fixture `tcaptcha` of the pytest plugin.

    Attributes:
        origin: The origin that it is served at; blank until then.
    """

    def __init__(self) -> None:
        self.origin: str = ""
        # Whether a gate may have met a failure. To find them all takes some milliseconds.
        self._may_fail = False
        self.renew()

    @property
    def emulator(self) -> TencentEmulator:
        """The emulator, for everything else."""
        self._may_fail = True
        return self._emulator

    def headers(self, **properties: Any) -> dict[str, str]:
        """Return a new pair as request headers.

        Args:
            properties: As for `TencentEmulator.mint`, such as `code=8`.
        """
        return as_headers(self.fields(**properties))

    def fields(self, **properties: Any) -> dict[str, str]:
        """Return a new pair as fields of a form or of JSON: `{"ticket": …, "randstr": …}`.

        Args:
            properties: As for `TencentEmulator.mint`, such as `code=8`.
        """
        pair = self._emulator.mint(**properties)
        self._ticket = pair["ticket"]
        return pair

    def answer(self, *outcomes: int | str) -> None:
        """Set how the next verifications are answered, one outcome for each.

        Neither probes of a gate nor calls during an outage use one.

        Args:
            outcomes: A `CaptchaCode`, or `"passed"`, `"expired"`, `"reused"`, `"rejected"` or
                `"risk"`.

        Raises:
            ValueError: If an outcome is neither.
        """
        for outcome in outcomes:
            if type(outcome) is not int and outcome not in _CODES:
                names = ", ".join(_CODES)
                raise ValueError(f"{outcome!r} is not an outcome: use a code or one of {names}")
        self._may_fail = True
        self._codes.extend(_CODES.get(str(outcome), outcome) for outcome in outcomes)

    def down(self) -> AbstractContextManager[object]:
        """Let the service be down, until the end of the context or of the test.

        Each guard with a verifier from the environment establishes the outage at once, which
        takes a second.
        """
        self.emulator.is_up = False
        healths = self._healths()
        for pause in (APART, 0.0) if healths else ():
            for health in healths:
                # To read the state counts as a visit, without which probing soon ends.
                if health.state != "down":
                    health.probe_now()
            time.sleep(pause)
        context = ExitStack()
        context.callback(self.up)
        return context

    def up(self) -> None:
        """Let the service be up again."""
        self.emulator.is_up = True
        self._settle()

    @property
    def calls(self) -> list[dict[str, Any]]:
        """The parameters of each verification in this test, without the gates' probes."""
        return [call for call in self._emulator.calls if not is_disaster(call["Ticket"])]

    def assert_verified(self, pair: Mapping[str, str] | None = None, times: int = 1) -> None:
        """Assert how often a pair was verified.

        Args:
            pair: What `headers` or `fields` returned; the last one by default, and any pair
                if none was made.
            times: How often; 0 if it must not have reached Tencent.

        Raises:
            AssertionError: If it was verified more or less often.
        """
        __tracebackhide__ = True
        tickets = {self._ticket} if pair is None else set(pair.values())
        counts = [tickets == {""} or call["Ticket"] in tickets for call in self.calls]
        if sum(counts) != times:
            raise AssertionError(
                f"the pair was verified {sum(counts)} times, not {times}; other pairs "
                f"{counts.count(False)} times. Is the endpoint protected by a rule?"
            )

    def renew(self) -> None:
        """Begin with a new emulator, and have each gate find that it is up."""
        self._emulator, self._ticket = TencentEmulator(), ""
        self._codes: deque[int | str] = deque()
        self._settle()
        self._may_fail = False

    def _settle(self) -> None:
        """Have each gate find that the service is up, if anything can have failed before."""
        for health in self._healths() if self._may_fail else ():
            if health.state != "up":
                health.probe_now()

    def _healths(self) -> list[Health]:
        """Return the health of the service that each guard of the process has of it."""
        # Applications keep their guards in many places; a rule has its verifier's health. Which
        # verifiers were made from the environment, the script shows.
        script = f"{self.origin}/"
        rules = [each for each in gc.get_objects() if type(each) is CompiledRule]
        healths = [rule.health for rule in rules if rule.captcha.script.startswith(script)]
        return list({id(health): health for health in healths}.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request as the current emulator does, or as the test has set."""
        body = await read_body(receive, MAX_CALL) or b""

        async def replay() -> Message:
            return {"type": "http.request", "body": body}

        async def closing(message: Message) -> None:
            # Tests seldom close a guard, and pytest reports connections that were kept open.
            if message["type"] == "http.response.start":
                message["headers"].append((b"connection", b"close"))
            await send(message)

        is_verification = scope["path"] == "/" and not _PROBE.search(body)
        if is_verification and self._codes and self._emulator.is_up:
            # Nothing waits between this and the call, so no other call takes the step.
            self._emulator.script({"code": self._codes.popleft()})
        await self._emulator(scope, replay, closing)
