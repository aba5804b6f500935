"""The one bridge from a blocking verifier to the ASGI face, taken only when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgiref.sync import sync_to_async

from tcaptcha_middleware.tencent.actions import action_of
from tcaptcha_middleware.validation import require
from tcaptcha_middleware.verifiers.workers import PerProcessWorkers

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Submission, Verdict
    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.types import SyncVerifier


def in_thread(verifier: SyncVerifier) -> InThread:
    """Make a blocking verifier usable under ASGI, each check in a worker thread (asyncio).

    Args:
        verifier: Anything with a blocking `verify`.

    Raises:
        ConfigurationError: It has none.
    """
    return InThread(verifier)


_TOLD = ("app_id", "site", "script", "captcha")


class InThread:
    """A blocking verifier whose checks are awaited; see `in_thread`."""

    def __init__(self, verifier: SyncVerifier) -> None:
        require("sync", verifier)
        self.action: Action = action_of(verifier)
        self._verifier = verifier
        # What pages, and whoever weighs disaster tickets, have to know of the captcha.
        vars(self).update({n: getattr(verifier, n) for n in _TOLD if hasattr(verifier, n)})
        self._workers = PerProcessWorkers("tcaptcha")

    async def averify(self, ticket: Submission) -> Verdict:
        """Run the verifier's `verify` in a worker thread.

        Raises:
            ThrottledError: All of them are busy.
        """
        # Not the one thread that Django keeps for its database: checks are independent.
        verify = sync_to_async(
            self._verifier.verify, thread_sensitive=False, executor=self._workers.get()
        )
        return await verify(ticket)

    async def aclose(self) -> None:
        """Close the verifier, where it can be closed, and let its threads end."""
        self._workers.close()
        close = getattr(self._verifier, "close", None)
        if close is not None:
            await sync_to_async(close, thread_sensitive=False)()
