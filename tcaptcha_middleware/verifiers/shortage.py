"""Shortages of our own machine, which a flood of visitors can cause, told from an outage.

An outage may open the gate, so that nothing may look like one that a client can bring about.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import OutageError, ThrottledError

if TYPE_CHECKING:
    from tcaptcha_middleware.errors import VerifierError

# No file, no memory, or no port free.
_SHORT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL}


def unreached(error: Exception) -> VerifierError:
    """Return the error that stands for a connection that failed, or was not to be had.

    Args:
        error: What the network, or a library over it, raised.
    """
    if (
        any(getattr(each, "errno", None) in _SHORT for each in _behind(error))
        or not _can_open()
    ):
        return ThrottledError(
            "no file or port is free for a call to Tencent: raise the limit of open files",
            answered=False,
        )
    return OutageError(f"Tencent is out of reach ({type(error).__name__})")


def _behind(error: BaseException) -> list[BaseException]:
    """Return the error and all that led to it; libraries wrap what the system told them."""
    found = [error]
    for each in found:
        led = (each.__cause__, each.__context__, *getattr(each, "exceptions", ()))
        found += [one for one in led if one is not None and one not in found]
    return found


def _can_open() -> bool:
    # A look-up that found no file free says only that there is no such name.
    try:
        socket.socket().close()
    except OSError:
        return False
    return True
