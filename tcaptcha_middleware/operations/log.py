"""What an operator is told in the log.

No secret and no ticket passes through here into a log.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tcaptcha_middleware.errors import RequestBodyError, VerifierError
    from tcaptcha_middleware.models import Reason, RequestInfo, Submission

logger: logging.Logger = logging.getLogger("tcaptcha_middleware")

_TELLING = 4
_REMOVED = "[removed]"


def unreadable_body(rule: str, error: RequestBodyError) -> None:
    """Tell of a client that has to be mended."""
    logger.info("%s: refused: %s", rule, error)


def no_pair(rule: str, reason: Reason, sources: Sequence[object], request: RequestInfo) -> None:
    """Tell whoever builds the client where its ticket and randstr were looked for."""
    if logger.isEnabledFor(logging.DEBUG):
        kinds = request.header("Content-Type")
        logger.debug("%s: %s in %s; Content-Type: %s", rule, reason, sources, kinds)


def broken_hook(rule: str, hook: str, error: Exception) -> None:
    """Tell of a function of the application's own that failed."""
    logger.error("%s: %s failed", rule, hook, exc_info=error)


def no_verdict(rule: str, error: VerifierError) -> None:
    """Tell why there is no verdict."""
    if isinstance(error, MisconfiguredError):
        logger.error("%s: the captcha is misconfigured: %s", rule, error)
    else:
        logger.warning("%s: no verdict: %s", rule, error)


def replay_store_failed(rule: str, error: Exception, then: str) -> None:
    """Tell that tickets cannot be claimed, and what is done instead."""
    logger.error("%s: the replay store failed (%s); %s", rule, error, then)


def cannot_hang_up(error: Exception) -> None:
    """Tell of a connection that cannot be shut, so that a slow client keeps its thread."""
    logger.error("a slow client cannot be hung up on: %r", error)


def budget_spent(rule: str, per_minute: int) -> None:
    """Tell why somebody was not let through, though the rule says that he may be."""
    logger.warning("%s: refused: the %d a minute are spent", rule, per_minute)


def let_through(rule: str, why: str) -> None:
    """Tell, loudly, that somebody was let through unchecked."""
    logger.error("%s: LET THROUGH UNCHECKED: %s", rule, why)


def would_refuse(rule: str, reason: Reason) -> None:
    """Tell what a rule that only observes would have refused."""
    logger.warning("%s: would be refused: %s", rule, reason)


def broken_verifier(rule: str, error: Exception, ticket: Submission) -> None:
    """Log a verifier's own failure, with the pair struck out of whatever it printed."""
    text = "".join(traceback.format_exception(error))
    for secret in (ticket.ticket, ticket.randstr):
        text = _struck(text, secret)
    logger.error("%s: the verifier failed\n%s", rule, text)


def _struck(text: str, secret: str) -> str:
    # A few letters are no secret, and the client could have them struck out of every word.
    if len(secret) < _TELLING:
        return text
    return text.replace(secret, _REMOVED).replace(repr(secret)[1:-1], _REMOVED)


def cannot_close(one: object, error: Exception) -> None:
    """Tell what could not be closed; the others are closed all the same."""
    logger.error("%s cannot be closed", type(one).__name__, exc_info=error)


def health_changed(verifier: object, old: str, new: str, reason: str, unlogged: int) -> None:
    """Report a change of what is known of the verifier's service."""
    name = type(verifier).__name__
    more = f" ({unlogged} changes before it were not logged)" if unlogged else ""
    if new == "down":
        logger.error("%s: the service is down, two probes failed: %s%s", name, reason, more)
    elif new == "suspect":
        logger.info("%s: the service is suspect and is being probed%s", name, more)
    else:
        level = logging.WARNING if old == "down" else logging.INFO
        logger.log(level, "%s: the service is up again", name)


def probe_void(verifier: object, reason: object) -> None:
    """Report a probe that proved nothing."""
    logger.debug("%s: a probe proved nothing: %s", type(verifier).__name__, reason)


def probes_do_not_run(verifier: object) -> None:
    """Report a process whose background threads do not run."""
    logger.warning(
        "%s: probes do not run, so an outage cannot be established: this process runs no"
        " background threads (uWSGI needs `enable-threads`)",
        type(verifier).__name__,
    )


def only_probes_answered(verifier: object) -> None:
    """Report a service that answers probes and no verification."""
    logger.warning(
        "%s: probes are answered, but verifications fail: the gate stays closed; if this"
        " lasts, use the switch",
        type(verifier).__name__,
    )
