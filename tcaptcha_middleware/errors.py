"""The errors of this package, each named after whose fault it is.

Holds the tree, and `needs` for errors of Python's own; it knows neither HTTP nor Tencent.

    TCaptchaError
      CaptchaRequired           the programmer's: a handler ran although no rule applied
      ConfigurationError        the programmer's: raised on construction, never per request
      RequestBodyError          the client's: its body ended early, stalled, or made no sense
      ReplayStoreError          the replay store's: it is down, slow or full
      VerifierError             no verdict could be had, and only an outage may open the gate
        OutageError             Tencent is down or out of reach
        ThrottledError          no more checks can be made just now, at Tencent or from here
        MisconfiguredError      Tencent is up, and our credentials or settings are wrong
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class TCaptchaError(Exception):
    """Base of every error that this package raises."""


class ConfigurationError(TCaptchaError, ValueError):
    """A setting cannot work; the message says what is wrong and how to fix it."""


class CaptchaRequired(TCaptchaError):  # noqa: N818  it reads like an answer, as in `raise Http404`
    """The gate did not let this request pass, but it reached a handler that requires it.

    Raised by `require_captcha`. Let it become a 500: a client can do nothing about it.
    """


class RequestBodyError(TCaptchaError):
    """The request's body could not be read as far as its ticket."""


class ReplayStoreError(TCaptchaError):
    """The replay store could not say whether a ticket was claimed before."""


class VerifierError(TCaptchaError):
    """A verifier could not get a verdict.

    Raise this, or one of its three subclasses, from a custom verifier. The plain error means
    an unclear failure: the request is refused as unavailable, and the gate never fails open.

    Args:
        message: What happened, for the operator's log; without ticket or keys.
        request_id: Tencent's `RequestId`, which its support asks for.
        answered: Whether the other end gave an answer that shows that it is up. Always False
            for an `OutageError`, and for failures of this machine, names and certificates.
        sent: False if no byte of the call left this machine, so the ticket is unspent.
    """

    # Defaults for subclasses that do not call `__init__`.
    request_id: str = ""
    answered: bool = True
    sent: bool = True

    def __init__(
        self, message: str, *, request_id: str = "", answered: bool = True, sent: bool = True
    ) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.answered = answered
        self.sent = sent

    def __str__(self) -> str:
        """Return the message, with the `RequestId` if there is one."""
        message = super().__str__()
        return f"{message} (RequestId {self.request_id})" if self.request_id else message


class OutageError(VerifierError):
    """Tencent is down or out of reach: timeout, connection failure, HTTP 5xx,
    `InternalError`, code 26.

    Args:
        message: What happened, for the operator's log; without ticket or keys.
        request_id: Tencent's `RequestId`, which its support asks for.
        sent: False if no byte of the call left this machine, so the ticket is unspent.
        connected: Whether a connection was accepted, or this is not known. Then the other end
            may only be busy.
        timed_out: Whether the call was given up while the other end may still work on it.
    """

    answered: bool = False
    connected: bool = True
    timed_out: bool = False

    def __init__(
        self,
        message: str,
        *,
        request_id: str = "",
        sent: bool = True,
        connected: bool = True,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message, request_id=request_id, answered=False, sent=sent)
        self.connected = connected
        self.timed_out = timed_out


class ThrottledError(VerifierError):
    """Too many verifications at once; this does not prove an outage.

    Tencent's quota is used up (`RequestLimitExceeded`), or this machine is short of slots,
    threads, ports, files or memory.
    """


class MisconfiguredError(VerifierError):
    """Credentials, account or settings are wrong; only the operator can fix it."""


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Add the fix to the error if an import inside finds that a module is not installed.

    Args:
        extra: The extra that installs it.

    Raises:
        ModuleNotFoundError: If a module is missing; with the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error}: pip install 'tcaptcha-middleware[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from error
