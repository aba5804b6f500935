"""The bridge from a sync verifier to the ASGI adapter, used only if asked for."""

from __future__ import annotations

from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.threadpool import BoundedThreadPool, result_of
from tcaptcha_middleware.validation import captcha_of, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.models import CaptchaInfo, Submission, Verdict
    from tcaptcha_middleware.types import SyncVerifier


def in_thread(verifier: SyncVerifier) -> InThread:
    """Make a sync verifier usable under ASGI, each verification in a worker thread.

    Args:
        verifier: Any object with a sync `verify`.

    Raises:
        ConfigurationError: If it lacks one.
    """
    return InThread(verifier)


class InThread:
    """A sync verifier whose verifications are awaited; see `in_thread`."""

    def __init__(self, verifier: SyncVerifier) -> None:
        require("sync", verifier)
        self.captcha: CaptchaInfo = captcha_of(verifier)
        self._verifier = verifier
        if hasattr(verifier, "probe"):
            self.probe: Callable[[float], None] = verifier.probe
        self._threads = BoundedThreadPool("tcaptcha-verifier")

    async def averify(self, ticket: Submission) -> Verdict:
        """Run the verifier's `verify` in a worker thread.

        Raises:
            ThrottledError: If all of them are busy.
        """
        # The thread sees the context variables of the request.
        verify = copy_context().run
        return await result_of(self._threads.submit(verify, self._verifier.verify, ticket))

    async def aclose(self) -> None:
        """Close the verifier, if it can be closed, and end its idle threads."""
        close: Any = getattr(self._verifier, "close", None)
        try:
            if close is not None:
                await result_of(self._threads.submit(close))
        finally:
            self._threads.close()
