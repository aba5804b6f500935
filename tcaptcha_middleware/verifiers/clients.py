"""A client of the user's own instead of a pool: httpx's public `send`, in both colours."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from tcaptcha_middleware.errors import OutageError, ThrottledError
from tcaptcha_middleware.tencent.api import MAX_ANSWER
from tcaptcha_middleware.verifiers.pools import PATIENCE
from tcaptcha_middleware.verifiers.shortage import unreached
from tcaptcha_middleware.verifiers.streams import too_long

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tcaptcha_middleware.verifiers.lines import Answer

_AS_IS: dict[str, Any] = {"auth": None, "follow_redirects": False, "stream": True}


class _Post:
    """Makes requests that carry nothing of the client's own: no headers, no cookies."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url = httpx.URL(url)
        self._timeout = timeout
        # Waiting for a connection leaves Tencent its time, see `pools`; opening one ends before
        # the whole does, because it leaves its socket open where it is cancelled.
        limits = httpx.Timeout(timeout, connect=timeout * 0.9, pool=timeout * PATIENCE)
        self._extensions = {"timeout": limits.as_dict()}

    def __call__(self, headers: Mapping[str, str], body: bytes) -> httpx.Request:
        # Not through client.build_request, which adds what is the client's own.
        return httpx.Request(
            "POST", self._url, headers=headers, content=body, extensions=self._extensions
        )


class Client:
    """Send posts over a client that somebody else opens and closes.

    Args:
        client: The client.
        url: Where to.
        timeout: Seconds for each operation. The whole has a deadline, which is looked at
            between the pieces of an answer.
    """

    def __init__(self, client: httpx.Client, url: str, timeout: float) -> None:
        self._client = client
        self._post = _Post(url, timeout)

    def send(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """Post `body` once, and read the answer whole."""
        content = bytearray()
        with _translated():
            answer = self._client.send(self._post(headers, body), **_AS_IS)
            try:
                for piece in answer.iter_raw():
                    content += piece
                    _check_length(content)
                    if time.monotonic() > deadline:
                        raise OutageError("Tencent took too long")
            finally:
                answer.close()
        return answer.status_code, bytes(content)


class AsyncClient:
    """Same as `Client`, but awaited. Whoever awaits it keeps the deadline."""

    def __init__(self, client: httpx.AsyncClient, url: str, timeout: float) -> None:
        self._client = client
        self._post = _Post(url, timeout)

    async def send(self, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post `body` once, and read the answer whole."""
        content = bytearray()
        with _translated():
            with anyio.CancelScope() as scope:
                answer = await self._client.send(self._post(headers, body), **_AS_IS)
                try:
                    async for piece in answer.aiter_raw():
                        content += piece
                        if len(content) > MAX_ANSWER:
                            # To raise here would leave httpx's generators unfinished.
                            scope.cancel()
                finally:
                    await answer.aclose()
            _check_length(content)
        return answer.status_code, bytes(content)


def _check_length(content: bytearray) -> None:
    if len(content) > MAX_ANSWER:
        raise too_long()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.PoolTimeout as error:
        # Ours, and a flood of visitors can cause it, so that it must not look like an outage.
        raise ThrottledError("too many checks at once", answered=False) from error
    except httpx.TimeoutException as error:
        raise OutageError("Tencent took too long") from error
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
        raise unreached(error) from error
