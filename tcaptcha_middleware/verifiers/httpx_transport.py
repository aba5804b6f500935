"""A transport over a user's own httpx clients. Uses only httpx's public `send`."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import httpx

from tcaptcha_middleware._http.codec import MAX_BODY, Answer, ProtocolError
from tcaptcha_middleware._http.connection import Progress, ProxyError
from tcaptcha_middleware.errors import OutageError, ThrottledError, VerifierError
from tcaptcha_middleware.verifiers.network_errors import network_error
from tcaptcha_middleware.waiting import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Mapping


_AS_IS: dict[str, Any] = {"auth": None, "follow_redirects": False, "stream": True}
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
_TOO_LONG = "the body of the response is too long"


class Transport(Protocol):
    """Sends a POST and returns the answer."""

    def send(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """Send one POST.

        Args:
            headers: The headers that differ from call to call, except `Content-Length`.
            body: The body.
            deadline: When to give up, by `time.monotonic`.

        Raises:
            VerifierError: If it is not answered.
        """
        ...

    async def asend(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """Same as `send`, but awaited."""
        ...


class HttpxTransport:
    """Sends over clients that the user opens and closes.

    httpx limits single operations, not their sum. The deadline of a sync call is looked at
    between the pieces of a response.

    Args:
        headers: The headers that all calls share.
        url: Where to.
        client: The client for `send`.
        async_client: The client for `asend`.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        url: str,
        client: httpx.Client | None,
        async_client: httpx.AsyncClient | None,
    ) -> None:
        self._headers = headers
        self._url = httpx.URL(url)
        self._client: Any = client
        self._async_client: Any = async_client

    def send(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """See `Transport.send`."""
        progress, content = Progress(stage="exchange", connected=True, sent=True), bytearray()
        request, events = self._request(headers, body, deadline), list[str]()
        request.extensions["trace"] = lambda event, _: events.append(event)
        try:
            response = self._client.send(request, **_AS_IS)
            progress.answering = True
            try:
                for piece in response.iter_raw():
                    content += piece
                    if len(content) > MAX_BODY:
                        raise ProtocolError(_TOO_LONG)
                    if time.monotonic() > deadline:
                        raise DeadlineError
            finally:
                response.close()
        except Exception as error:
            failure = httpx_error(error, progress)
            # https://www.encode.io/httpcore/extensions/#trace
            is_kept = events and not any(event.startswith("connection.") for event in events)
            if is_kept and isinstance(failure, OutageError):
                message = f"a kept connection failed, which proves nothing ({failure})"
                failure = VerifierError(message, answered=False, sent=failure.sent)
            raise failure from error
        return Answer(response.status_code, bytes(content))

    async def asend(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """See `Transport.asend`."""
        progress, content = Progress(stage="exchange", connected=True, sent=True), bytearray()
        try:
            with anyio.move_on_after(deadline - time.monotonic()) as limit:
                request = self._request(headers, body, deadline)
                response = await self._async_client.send(request, **_AS_IS)
                progress.answering = True
                try:
                    async for piece in response.aiter_raw():
                        content += piece
                        if len(content) > MAX_BODY:
                            # To raise here would leave httpx's generators unfinished.
                            limit.cancel()
                finally:
                    await response.aclose()
            if len(content) > MAX_BODY:
                raise ProtocolError(_TOO_LONG)
            if limit.cancelled_caught:
                raise DeadlineError
        except Exception as error:
            raise httpx_error(error, progress) from error
        return Answer(response.status_code, bytes(content))

    def _request(
        self, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> httpx.Request:
        seconds = max(deadline - time.monotonic(), 0.001)
        # Waiting for a connection leaves Tencent its time. Connecting ends before the whole
        # does, because httpx leaves its socket open if it is cancelled.
        limits = httpx.Timeout(seconds, connect=seconds * 0.9, pool=seconds * 0.1)
        # Not client.build_request(), which adds the client's own headers and cookies.
        return httpx.Request(
            "POST",
            self._url,
            headers={**self._headers, **headers},
            content=body,
            extensions={"timeout": limits.as_dict()},
        )


def httpx_error(error: Exception, progress: Progress) -> VerifierError:
    """Same as `network_error`, for httpx's errors too."""
    if isinstance(error, httpx.PoolTimeout):
        # Many visitors can cause it, so it must not look like an outage.
        message = "no connection of the httpx client is free: raise its limits"
        return ThrottledError(message, answered=False, sent=False)
    if isinstance(error, _UNSENT):
        progress.sent = progress.connected = False
    cause: Exception = error
    if isinstance(error, httpx.TimeoutException):
        cause = DeadlineError()
    elif isinstance(error, httpx.ProxyError):
        progress.stage = "proxy"
        status = re.match(r"[1-5][0-9]{2}", str(error))
        cause = ProxyError(int(status[0])) if status else ConnectionError()
    elif isinstance(error, httpx.NetworkError):
        cause = ConnectionError()
    elif isinstance(error, httpx.RemoteProtocolError):
        # Only this text means that the connection ended before a line of the response.
        is_end = "disconnected without sending a response" in str(error)
        cause = ConnectionResetError() if is_end else ProtocolError("invalid response")
    cause.__context__ = None if cause is error else error
    return network_error(cause, progress)
