"""Connections that wait for their next exchange: a stack. No I/O but a look at the socket.

The last used comes first, so that no more are used than are needed; nothing is searched, so
that a thousand cost no more than one.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar


class Connection(Protocol):
    """What can wait here."""

    def has_expired(self) -> bool:
        """Tell whether it waited too long, or its other end has hung up."""
        ...


C = TypeVar("C", bound=Connection)


class Idle(Generic[C]):
    """A stack of connections, from any thread. Whoever is handed one has to close it."""

    def __init__(self) -> None:
        self._stack: deque[C] = deque()
        self._lock = threading.Lock()
        self._is_open = True

    def newest(self) -> C | None:
        """Take the last used one, if there is one."""
        with self._lock:
            return self._stack.pop() if self._stack else None

    def keep(self, connection: C) -> C | None:
        """Put one on top; return one that has to be closed instead, if there is one."""
        with self._lock:
            if not self._is_open:
                return connection
            self._stack.append(connection)
            # Those at the bottom may never be used again: each that comes shows one out.
            return self._stack.popleft() if self._stack[0].has_expired() else None

    def close(self) -> list[C]:
        """Keep none from now on; return all."""
        with self._lock:
            self._is_open = False
            connections = list(self._stack)
            self._stack.clear()
            return connections
