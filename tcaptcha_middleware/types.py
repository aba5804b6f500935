"""Protocols that verifiers and replay stores implement; no other code.

A class needs the methods of one protocol only: the sync one for WSGI, the async one for ASGI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Submission, Verdict


class SyncVerifier(Protocol):
    """A verifier for the WSGI adapter. It must enforce a timeout by itself.

    What the rest of the package needs to know about the captcha is the attribute
    `captcha = CaptchaInfo(…)`; without it, no page can show the captcha. `probe(seconds)`, or
    `aprobe`, finds out if the service is up; a rule that fails open needs it.
    """

    def verify(self, submission: Submission, /) -> Verdict:
        """Return the vendor's verdict on a submission.

        Raises:
            OutageError: If the vendor does not answer. A `TimeoutError` counts as one.
            VerifierError: If the verification fails for another reason.
        """
        ...


class AsyncVerifier(Protocol):
    """A verifier for the ASGI adapter."""

    async def averify(self, submission: Submission, /) -> Verdict:
        """Same as `SyncVerifier.verify`, but awaited."""
        ...


Verifier = SyncVerifier | AsyncVerifier


class SyncReplayStore(Protocol):
    """A replay store for the WSGI adapter.

    A store that keeps its claims in the memory of one process sets the attribute
    `single_process`: True if that process is the only one that serves the application. A store
    that can lose claims sets the attribute `loses_claims` to True while it may have lost some.
    """

    def claim(self, key: str, token: str, seconds: float, /) -> bool:
        """Claim `key`; True for the first caller.

        Args:
            key: A hash of the ticket.
            token: Identifies this claim; the store keeps it with the key.
            seconds: How long the claim lasts.

        Raises:
            ReplayStoreError: If the store cannot decide.
        """
        ...

    def release(self, key: str, token: str, /) -> None:
        """Delete the claim of `key`, but only if it was made with `token`.

        Raises:
            ReplayStoreError: If the store does not answer.
        """
        ...


class AsyncReplayStore(Protocol):
    """A replay store for the ASGI adapter; see `SyncReplayStore`."""

    async def aclaim(self, key: str, token: str, seconds: float, /) -> bool:
        """Same as `SyncReplayStore.claim`, but awaited."""
        ...

    async def arelease(self, key: str, token: str, /) -> None:
        """Same as `SyncReplayStore.release`, but awaited."""
        ...


ReplayStore = SyncReplayStore | AsyncReplayStore
