"""A client that sends one POST over a kept connection, or a new one.

A kept connection that fails before a byte of the answer proves nothing, so the request is sent
a second time. The answer says so, because both may have been handled.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from tcaptcha_middleware._http.codec import encode_head, encode_request
from tcaptcha_middleware._http.connection import Connector, Progress
from tcaptcha_middleware.scoped import renew_after_fork
from tcaptcha_middleware.waiting import FOREVER, arun, run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tcaptcha_middleware._http.codec import Answer
    from tcaptcha_middleware._http.connection import Connection, LoadContext, Proxy
    from tcaptcha_middleware.waiting import Steps

    Headers = Mapping[str, str]
    Translate = Callable[[Exception, Progress], Exception]

IDLE = 60.0  # seconds that a connection may wait for its next request
MAX_AGE = 300.0  # seconds that a connection is used; so a name that moves is followed
SILENCE = 1.0  # seconds that a kept connection may be silent before a new one is tried


class ConnectionPool:
    """Idle connections, the most recently used first. Safe in threads, without a lock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._is_open = True
        # Seconds that answers take, of which slow ones count for longer, and may take.
        self._usual, self.patience = 0.0, SILENCE

    def take(self) -> Connection | None:
        """Return a connection on which nothing can be read, if there is one."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.expires >= self._clock() and connection.is_quiet():
                return connection
            connection.close()

    def keep(self, connection: Connection, seconds: float) -> None:
        """Put a connection on top, after an answer that took so many seconds."""
        self._usual = max(seconds, 0.9 * self._usual)
        self.patience = max(SILENCE, 3 * self._usual)
        now = self._clock()
        connection.expires = min(now + IDLE, connection.born + MAX_AGE)
        self._idle.append(connection)
        if not self._is_open:
            self.drop()
        try:
            oldest = self._idle[0]  # it may never be taken again
            if oldest is not connection and oldest.expires < now:
                self._idle.remove(oldest)
                oldest.close()
        except (IndexError, ValueError):  # another thread took it
            return

    def drop(self) -> None:
        """Close all idle connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Close all idle connections, and each other one after its exchange."""
        self._is_open = False
        self.drop()


class HttpClient:
    """Sends requests to one origin, through a proxy if there is one; `translate`s errors.

    `headers` are those that all requests share.
    """

    def __init__(
        self,
        headers: Headers,
        origin: str,
        context: LoadContext,
        translate: Translate,
        proxy: Proxy | None = None,
    ) -> None:
        self._head = encode_head(headers)
        self._connector = Connector(origin, context, proxy)
        self._translate = translate
        self._pool = ConnectionPool()
        renew_after_fork(self)

    def send(self, headers: Headers, body: bytes, deadline: float) -> Answer:
        """Send a POST and return the answer."""
        return run(self._exchange(headers, body), deadline)

    async def asend(self, headers: Headers, body: bytes, deadline: float) -> Answer:
        """Same as `send`, but awaited."""
        return await arun(self._exchange(headers, body), deadline)

    def _exchange(self, headers: Headers, body: bytes) -> Steps[Answer]:
        progress = Progress()
        pool, request = self._pool, encode_request(self._head, headers, body)
        connection, patience = pool.take(), pool.patience
        try:
            while True:
                if connection is None:
                    connection = yield from self._connector.connect(progress)
                    patience = FOREVER
                progress.stage, progress.connected, progress.sent = "exchange", True, True
                began = time.monotonic()
                try:
                    answer = yield from connection.exchange(request, progress, patience)
                    break
                except OSError:
                    if patience == FOREVER or progress.answering:
                        raise
                    pool.drop()
                    connection, progress.resent = None, True
        except Exception as error:
            pool.drop()
            raise self._translate(error, progress) from error
        answer.resent = progress.resent
        if answer.is_reusable:
            pool.keep(connection, time.monotonic() - began)
        else:
            connection.close()
        return answer

    def close(self) -> None:
        """Close all connections of this process; the next request opens a new one."""
        self._pool.close()
        self._pool = ConnectionPool()

    after_fork = close  # two processes on one connection would mix up their answers
