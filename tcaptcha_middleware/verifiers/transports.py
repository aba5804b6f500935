"""What sends a verification: the protocol, and the package's own transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tcaptcha_middleware._http.connection import Progress
from tcaptcha_middleware.verifiers.network_errors import network_error
from tcaptcha_middleware.waiting import arun, run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware._http.client import HttpClient
    from tcaptcha_middleware._http.codec import Answer


class Transport(Protocol):
    """Sends a POST and returns the answer."""

    def send(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """Send one POST.

        Args:
            headers: The headers, except `Content-Length`.
            body: The body.
            deadline: When to give up, by `time.monotonic`.

        Raises:
            VerifierError: If it is not answered.
        """
        ...

    async def asend(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """Same as `send`, but awaited."""
        ...


class HttpTransport:
    """Sends over the package's own client.

    Args:
        client: The client.
    """

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def send(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """See `Transport.send`."""
        progress = Progress()
        try:
            return run(self._client.exchange(headers, body, progress), deadline)
        except Exception as error:
            raise network_error(error, progress) from error

    async def asend(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Answer:
        """See `Transport.asend`."""
        progress = Progress()
        try:
            return await arun(self._client.exchange(headers, body, progress), deadline)
        except Exception as error:
            raise network_error(error, progress) from error
