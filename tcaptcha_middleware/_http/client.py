"""A client that sends one POST over a kept connection, or a new one.

A request is sent a second time if a kept connection fails before a byte of the answer arrived:
that proves nothing about the other end. The answer says so, because it may be the second one.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from tcaptcha_middleware._http.codec import ResponseReader, encode_request
from tcaptcha_middleware._http.connection import Connector
from tcaptcha_middleware.scoped import PerProcess
from tcaptcha_middleware.waiting import FOREVER

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from tcaptcha_middleware._http.codec import Answer
    from tcaptcha_middleware._http.connection import Connection, Progress, Proxy
    from tcaptcha_middleware.waiting import Steps

IDLE = 60.0  # seconds that a connection may wait for its next request
MAX_AGE = 300.0  # seconds that a connection is used; so a name that moves is followed
SILENCE = 1.0  # seconds that a kept connection may be silent before a new one is tried


class ConnectionPool:
    """Idle connections, the most recently used first, so no more are used than needed.

    Without a lock, which a fork could copy while it is held; each step is safe in threads.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._idle: deque[Connection] = deque()
        self._is_open = True
        self._usual = 0.0

    @property
    def patience(self) -> float:
        """Seconds that a kept connection may be silent: more if answers usually are slow."""
        return max(SILENCE, 3 * self._usual)

    def take(self) -> Connection | None:
        """Return a connection on which nothing can be read, if there is one."""
        with suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if self._is_fresh(connection) and connection.is_quiet():
                    return connection
                connection.close()
        return None

    def keep(self, connection: Connection, seconds: float) -> None:
        """Put a connection on top, after an answer that took so many seconds."""
        self._usual = max(seconds, 0.9 * self._usual)
        connection.used, connection.is_kept = self._clock(), True
        self._idle.append(connection)
        if not self._is_open:
            self.drop()
        with suppress(IndexError):
            # Those at the bottom may never be taken again.
            oldest = self._idle.popleft()
            if self._is_fresh(oldest):
                self._idle.appendleft(oldest)
            else:
                oldest.close()

    def drop(self) -> None:
        """Close all idle connections."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def close(self) -> None:
        """Close all idle connections, and each other one after its exchange."""
        self._is_open = False
        self.drop()

    def _is_fresh(self, connection: Connection) -> bool:
        now = self._clock()
        return now - connection.used <= IDLE and now - connection.born <= MAX_AGE


class HttpClient:
    """Sends requests to one origin over connections of this process.

    Args:
        origin: Such as `"https://captcha.tencentcloudapi.com"`.
        context: Loads the settings of TLS, in a thread.
        proxy: The HTTP proxy to go through, if any.
        keeps: Whether connections are kept for later requests.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        origin: str,
        context: Callable[[], ssl.SSLContext],
        proxy: Proxy | None = None,
        *,
        keeps: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connector = Connector(origin, context, proxy, clock)
        self._keeps, self._clock = keeps, clock
        self._pools = PerProcess(partial(ConnectionPool, clock))

    def exchange(
        self, headers: Mapping[str, str], body: bytes, progress: Progress
    ) -> Steps[Answer]:
        """Send a POST and return the answer."""
        pool, request = self._pools.get(), encode_request(headers, body)
        try:
            if (connection := pool.take()) is not None:
                progress.stage, progress.connected = "exchange", True
                try:
                    return (yield from self._exchange(pool, connection, request, progress))
                except OSError:
                    if progress.answering:
                        raise
                pool.drop()
                progress.resent = True
            connection = yield from self._connector.connect(progress)
            return (yield from self._exchange(pool, connection, request, progress))
        except Exception:
            pool.drop()
            raise

    def close(self) -> None:
        """Close all connections of this process; the next request opens a new one."""
        if (pool := self._pools.take()) is not None:
            pool.close()

    def _exchange(
        self, pool: ConnectionPool, connection: Connection, request: bytes, progress: Progress
    ) -> Steps[Answer]:
        began, progress.sent = self._clock(), True
        patience = pool.patience if connection.is_kept else FOREVER
        try:
            answer = yield from connection.exchange(
                request, ResponseReader(), progress, patience
            )
        except BaseException:
            connection.close()
            raise
        answer.resent = progress.resent
        if answer.is_reusable and self._keeps:
            pool.keep(connection, self._clock() - began)
        else:
            connection.close()
        return answer
