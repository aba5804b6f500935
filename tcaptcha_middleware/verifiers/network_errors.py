"""Translates errors of the network into errors of this package, for all verifiers.

Only a failure of the other end, or of the way to it, counts as an outage. Shortages of this
machine, names, certificates, proxies and unreadable answers never do.
"""

from __future__ import annotations

import errno
import socket
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from tcaptcha_middleware._http.codec import ProtocolError
from tcaptcha_middleware._http.connection import ProxyError
from tcaptcha_middleware.errors import (
    MisconfiguredError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.waiting import DeadlineError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tcaptcha_middleware._http.connection import Progress

_FILES = "no file is free for a call to Tencent: raise the limit of open files (ulimit -n)"
_MEMORY = "no memory is free for a call to Tencent: give this machine more"
_SHORTAGES = {
    errno.EMFILE: _FILES,
    errno.ENFILE: f"{_FILES}, or that of the system (fs.file-max)",
    errno.ENOBUFS: _MEMORY,
    errno.ENOMEM: _MEMORY,
    errno.EADDRNOTAVAIL: "no port is free for a call to Tencent: widen "
    "net.ipv4.ip_local_port_range",
}
_REFUSALS = (HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, HTTPStatus.FORBIDDEN)


def network_error(error: Exception, progress: Progress) -> VerifierError:
    """Return the error of this package for an error of the network.

    Args:
        error: What the network, or a library over it, raised.
        progress: How far the call had come.
    """
    causes = causes_of(error)
    if (shortage := _shortage(causes)) is not None:
        return ThrottledError(shortage, answered=False, sent=progress.sent)
    for kind, translate in _table():
        for cause in causes:
            if isinstance(cause, kind):
                return translate(cause, progress)
    return _unclear(f"the call to Tencent failed ({type(error).__name__})", progress)


def without_secrets(error: Exception) -> VerifierError:
    """Return an error without the frames and causes of a call, which contain keys and ticket.

    Error reporters send the local variables of all frames behind an error.
    """
    if not isinstance(error, VerifierError):
        message = f"the call to Tencent failed ({type(error).__name__})"
        error = VerifierError(message, answered=False)
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def causes_of(error: BaseException) -> list[BaseException]:
    """Return the error and all that led to it; libraries wrap what the system reported."""
    causes = [error]
    for cause in causes:
        led = (cause.__cause__, cause.__context__, *getattr(cause, "exceptions", ()))
        causes += [each for each in led if each is not None and each not in causes]
    return causes


def _shortage(causes: list[BaseException]) -> str | None:
    for cause in causes:
        if isinstance(cause, MemoryError):
            return _MEMORY
        if isinstance(cause, socket.gaierror):
            # A look-up that finds no free file only reports that the name is unknown.
            try:
                socket.socket().close()
            except OSError:
                return _FILES
        elif isinstance(cause, OSError) and cause.errno in _SHORTAGES:
            return _SHORTAGES[cause.errno]
    return None


def _unclear(message: str, progress: Progress) -> VerifierError:
    return VerifierError(message, answered=False, sent=progress.sent)


def _untrusted(error: ssl.SSLCertVerificationError, progress: Progress) -> VerifierError:
    reason = getattr(error, "verify_message", "") or "it is not trusted"
    return MisconfiguredError(
        f"certificate verify failed: {reason}. If a private authority signed "
        "it, trust that one with ssl_context=",
        answered=False,
        sent=progress.sent,
    )


def _refused_by_proxy(error: ProxyError, progress: Progress) -> VerifierError:
    message = f"the proxy answered HTTP {error.args[0]} to CONNECT"
    if error.args[0] in _REFUSALS:
        message += ": check the proxy's user, password and permissions"
        return MisconfiguredError(message, answered=False, sent=progress.sent)
    return _unclear(message, progress)


def _unresolved(error: socket.gaierror, progress: Progress) -> VerifierError:
    return _unclear(f"the name cannot be resolved ({error.strerror})", progress)


def _garbage(error: ProtocolError, progress: Progress) -> VerifierError:
    other = "the proxy" if progress.stage == "proxy" else "Tencent"
    return _unclear(f"{other} cannot be understood: {error}", progress)


def _too_late(_: DeadlineError, progress: Progress) -> VerifierError:
    if progress.stage == "resolve":
        return _unclear("the name was not resolved in time", progress)
    if progress.stage == "proxy":
        return _unclear("the proxy took too long", progress)
    return OutageError(
        "Tencent took too long",
        sent=progress.sent,
        connected=progress.connected,
        timed_out=progress.connected,
    )


def _tls_failed(error: ssl.SSLError, progress: Progress) -> VerifierError:
    return _unclear(f"TLS failed ({error.reason})", progress)


def _unreachable(error: OSError, progress: Progress) -> VerifierError:
    reason = error.strerror or type(error).__name__
    if progress.stage == "proxy":
        return _unclear(f"the proxy is out of reach ({reason})", progress)
    if progress.answering:
        return _unclear(f"Tencent's answer broke off ({reason})", progress)
    return OutageError(
        f"Tencent is out of reach ({reason})", sent=progress.sent, connected=progress.connected
    )


@cache
def _table() -> tuple[tuple[type[BaseException], Callable[..., VerifierError]], ...]:
    """Return what translates each kind of error; the first row that fits a cause applies."""
    import ssl  # late, because it takes a twentieth of start-up

    return (
        (VerifierError, lambda error, _: error),
        (ssl.SSLCertVerificationError, _untrusted),
        (ProxyError, _refused_by_proxy),
        (socket.gaierror, _unresolved),
        (ProtocolError, _garbage),
        (DeadlineError, _too_late),
        (ssl.SSLEOFError, _unreachable),
        (ssl.SSLError, _tls_failed),
        (OSError, _unreachable),
    )
