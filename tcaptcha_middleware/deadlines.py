"""What is left of the time that something may take; by `time.monotonic`."""

from __future__ import annotations

import time


def left(deadline: float) -> float:
    """Return the seconds until `deadline`.

    Raises:
        TimeoutError: It is over.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
