"""As many connections to one origin as there are checks at once, in both colours.

httpcore's own pool is for any number of hosts: it looks at every connection for every call,
which takes longer than the call as soon as there are some dozens.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import anyio

from tcaptcha_middleware.deadlines import left
from tcaptcha_middleware.errors import ThrottledError
from tcaptcha_middleware.verifiers.idle import Idle
from tcaptcha_middleware.verifiers.lines import AsyncLine, Line, closed, post

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpcore

    from tcaptcha_middleware.verifiers.lines import Answer

CONNECTIONS = 256
"""How many are open at the most."""
PATIENCE = 0.1
"""How much of its time a check may wait for a connection. Tencent gets the rest: or else the
waiting, which a flood of visitors can cause, would look as if Tencent were slow."""


class Pool:
    """Send posts, blocking, from any thread.

    Args:
        url: Where to.
    """

    def __init__(self, url: httpcore.URL) -> None:
        self._url = url
        self._origin = url.origin
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._idle: Idle[Line] = Idle()

    def send(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """Post `body` once, and read the answer whole.

        Args:
            headers: What is sent beside its length.
            body: What is sent.
            deadline: When it has to be over, by `time.monotonic`.

        Raises:
            ThrottledError: Every connection is in use.
        """
        if not self._places.acquire(timeout=left(deadline) * PATIENCE):
            raise ThrottledError("too many checks at once", answered=False)
        try:
            line = self._waiting() or Line.open(self._origin, deadline)
            answer = line.exchange(post(self._url, headers, body), deadline)
            self._keep(line)
        finally:
            self._places.release()
        return answer

    def close(self) -> None:
        """Close those that wait; each other one closes after its exchange."""
        for line in self._idle.close():
            line.close()

    def _waiting(self) -> Line | None:
        while (line := self._idle.newest()) is not None and line.has_expired():
            line.close()
        return line

    def _keep(self, line: Line) -> None:
        if line.is_idle() and (leaving := self._idle.keep(line)) is not None:
            leaving.close()


class AsyncPool:
    """Same as `Pool`, but awaited, in one event loop. Whoever awaits it keeps the deadline.

    Args:
        url: Where to.
        timeout: Seconds for an exchange, waiting and connecting included.
    """

    def __init__(self, url: httpcore.URL, timeout: float) -> None:
        self._url = url
        self._origin = url.origin
        self._timeout = timeout
        self._places = anyio.Semaphore(CONNECTIONS)
        self._idle: Idle[AsyncLine] = Idle()

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Same as `Pool.send`, but awaited."""
        await self._enter()
        try:
            line = await self._waiting() or await AsyncLine.open(self._origin)
            answer = await line.exchange(post(self._url, headers, body))
            await self._keep(line)
        finally:
            self._places.release()
        return answer

    async def aclose(self) -> None:
        """Same as `Pool.close`, but awaited."""
        for line in self._idle.close():
            await closed(line)

    async def _enter(self) -> None:
        try:
            # Awaiting a free place would go round the event loop once.
            self._places.acquire_nowait()
        except anyio.WouldBlock:
            with anyio.move_on_after(self._timeout * PATIENCE) as waiting:
                await self._places.acquire()
            if waiting.cancelled_caught:
                raise ThrottledError("too many checks at once", answered=False) from None

    async def _waiting(self) -> AsyncLine | None:
        while (line := self._idle.newest()) is not None and line.has_expired():
            await closed(line)
        return line

    async def _keep(self, line: AsyncLine) -> None:
        if line.is_idle() and (leaving := self._idle.keep(line)) is not None:
            await closed(leaving)
