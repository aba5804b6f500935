"""The body of an `HttpRequest`, read before the view and put back for it."""

from __future__ import annotations

import sys
from typing import Any

from django.core.handlers.wsgi import LimitedStream

from tcaptcha_middleware.wsgi_body import Body, ClosingIterator


class RequestBody:
    """The body of an `HttpRequest`, read from the stream that Django reads it from.

    Not by `request.body`, which fails for large uploads, nor by `request.read`, after which the
    view cannot parse a form.

    Args:
        request: The request.
    """

    def __init__(self, request: Any) -> None:
        self._request = request
        self._environ: dict[str, Any] = {}
        self._body: Body | None = None

    def read(self, timeout: float, *, may_disconnect: bool) -> tuple[bytes, bool]:
        """Return the next piece, and whether there is more; see `wsgi_body.Body`."""
        if self._body is None:
            request = self._request
            self._environ = {"wsgi.input": request._stream}  # noqa: SLF001
            if hasattr(request, "scope"):  # received as a whole, with or without a length
                self._environ["wsgi.input_terminated"] = True
            else:
                self._environ = request.META | self._environ
            self._body = Body(self._environ)
        return self._body.read(timeout, may_disconnect=may_disconnect)

    def put_back(self) -> None:
        """Let Django read the body from its beginning."""
        if self._body is not None:
            self._body.replay(self._environ)
            stream = self._environ["wsgi.input"]
            if stream is not self._request._stream:  # noqa: SLF001
                # The only limit is that of the stream behind what was read.
                self._request._stream = LimitedStream(stream, sys.maxsize)  # noqa: SLF001

    def end_after(self, response: Any) -> None:
        """Close the connection after the response, if reading the body was ended."""
        if self._body is not None:
            ending = self._body.behind(())
            if isinstance(ending, ClosingIterator):
                # Django closes a response after it was sent.
                response._resource_closers.append(ending.close)  # noqa: SLF001
