"""Connect: a name is looked up and its addresses are tried, in both colours.

Knows neither TLS nor HTTP.
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import anyio
import httpcore

from tcaptcha_middleware.deadlines import left
from tcaptcha_middleware.verifiers.workers import Aside

if TYPE_CHECKING:
    from anyio.abc import SocketStream

# RFC 8305, section 8: how long an address is tried alone, in seconds.
_HEAD_START = 0.25
_looking_up = Aside()


def dial(host: str, port: int, deadline: float) -> httpcore.NetworkStream:
    """Connect before `deadline`, by `time.monotonic`.

    Raises:
        OSError: There is no such name.
        TimeoutError: Nobody says in time whether there is.
        httpcore.ConnectError: No address answers.
        httpcore.ConnectTimeout: Nor is there time to try another one.
    """
    failed: Exception = OSError("no address")
    addresses = _look_up(host, port).result(left(deadline))
    for number, address in enumerate(addresses):
        # Address by address, each with its share of the time that is left.
        share = left(deadline) / (len(addresses) - number)
        try:
            return httpcore.SyncBackend().connect_tcp(address, port, share)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            failed = error
    raise failed


async def adial(host: str, port: int) -> SocketStream:
    """Same as `dial`, but awaited; a slow address does not keep the next ones waiting.

    Raises:
        OSError: There is no such name, or no address answers.
    """
    addresses = await _looking_up.run(_addresses, host, port)
    race = _Race(port)
    try:
        await race.run(addresses)
        return race.winner()
    finally:
        await race.close()


class _Race:
    """Attempts to connect, each begun when the one before has failed, or is slow (RFC 8305)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connected: list[SocketStream] = []
        self._failed: OSError = OSError("no address")

    async def run(self, addresses: list[str]) -> None:
        """Try until one answers, or none is left."""
        async with anyio.create_task_group() as attempts:
            for address in addresses:
                ended = anyio.Event()
                attempts.start_soon(self._attempt, address, ended, attempts.cancel_scope)
                with anyio.move_on_after(_HEAD_START):
                    await ended.wait()

    async def _attempt(
        self, address: str, ended: anyio.Event, others: anyio.CancelScope
    ) -> None:
        try:
            stream = await anyio.connect_tcp(address, self._port)
        except OSError as error:
            self._failed = error
        else:
            self._connected.append(stream)
            others.cancel()
        ended.set()

    def winner(self) -> SocketStream:
        """Return the first that connected; several may have, in the same moment."""
        if not self._connected:
            raise self._failed
        return self._connected.pop(0)

    async def close(self) -> None:
        """Close what nobody took."""
        # A cancellation that came here would lose the winner.
        with anyio.CancelScope(shield=True):
            for stream in self._connected:
                await anyio.aclose_forcefully(stream)


def _look_up(host: str, port: int) -> Future[list[str]]:
    """Look a name up in a thread, because nothing but its own end ends a look-up.

    The thread is not kept for the next one: connections are rarely opened, and an application
    that forks had better have no threads.
    """
    found: Future[list[str]] = Future()
    look = partial(_emit, found, host, port)
    threading.Thread(target=look, name="tcaptcha name", daemon=True).start()
    return found


def _emit(found: Future[list[str]], host: str, port: int) -> None:
    try:
        found.set_result(_addresses(host, port))
    except Exception as error:
        found.set_exception(error)
    finally:
        # An error holds this frame, which must not hold the error.
        del found


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]
