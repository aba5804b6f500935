"""What an operator reads in the log. No secret and no ticket gets into it.

Lines that a request can cause are rate limited: the first one is written at once, and the
ones that follow within a minute are counted.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from functools import cache
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, quote_plus

from tcaptcha_middleware.errors import MisconfiguredError, ReplayStoreError, TCaptchaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tcaptcha_middleware.errors import CaptchaRequired, RequestBodyError, VerifierError
    from tcaptcha_middleware.models import Reason, Submission

logger: logging.Logger = logging.getLogger("tcaptcha_middleware")

_PERIOD = 60.0
_KINDS = 1000
# A shorter text is not secret, and a client could have it removed from every word.
_SECRET_LENGTH = 4
# How many characters of a header are logged; the client chooses it.
_LONG = 100


class RateLimit:
    """Write each kind of line at most once a minute, with the number of lines left out.

    Args:
        clock: A monotonic clock, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Without a lock: a race loses a count, and a lock may be held while a process forks.
        self._written: dict[tuple[object, ...], tuple[float, int]] = {}

    def log(
        self, level: int, message: str, *arguments: object, kind: tuple[object, ...] = ()
    ) -> None:
        """Write a line, or count it.

        Args:
            level: As in `logging`.
            message: As in `logging`.
            arguments: As in `logging`.
            kind: What makes lines alike; the message and its arguments by default.
        """
        if not logger.isEnabledFor(level):
            return
        key, now = kind or (message, *map(str, arguments)), self._clock()
        written_at, left_out = self._written.get(key, (-_PERIOD, 0))
        if now - written_at < _PERIOD:
            self._written[key] = written_at, left_out + 1
            return
        if len(self._written) >= _KINDS:
            self._written.clear()
        self._written[key] = now, 0
        suffix = f" ({left_out} more since the last such line)" if left_out else ""
        logger.log(level, "%s%s", message % arguments, suffix)


class Origin(Protocol):
    """What a line is about: a rule."""

    @property
    def name(self) -> str:
        """The rule's name."""
        ...

    @property
    def rate_limit(self) -> RateLimit:
        """Limits the lines of the rule's guard."""
        ...


def unreadable_body(rule: Origin, error: RequestBodyError) -> None:
    """Report a body that the client broke."""
    rule.rate_limit.log(logging.INFO, "%s: refused: %s", rule.name, error)


def no_pair(
    rule: Origin, reason: Reason, sources: Sequence[object], seen: object, content_type: str
) -> None:
    """Report where the pair was looked for, and which of its values was sent.

    Args:
        rule: The rule that refuses.
        reason: Why the request is refused.
        sources: The rule's sources.
        seen: What was sent; its `repr` does not contain the values.
        content_type: The request's `Content-Type`.
    """
    if logger.isEnabledFor(logging.DEBUG):
        message = "%s: %s: %s; looked in %s; Content-Type: %r"
        logger.debug(message, rule.name, reason, seen, sources, content_type[:_LONG])


def no_page(rule: Origin) -> None:
    """Report a browser that was refused without the challenge."""
    rule.rate_limit.log(
        logging.INFO,
        "%s: no page= is set, so a browser got a plain document instead of a captcha",
        rule.name,
        kind=("no page",),
    )


def unread_body(rule: Origin, content_type: str) -> None:
    """Report a body of a type that no source reads, so the pair may be in it."""
    rule.rate_limit.log(
        logging.INFO,
        "%s: no source reads a body of the type %r: send JSON, a form, or headers",
        rule.name,
        content_type[:_LONG],
        kind=(rule.name, "unread body"),
    )


def private_peer(address: str) -> None:
    """Warn once that a proxy's address is taken for every visitor's."""
    if _first("private peer"):
        message = (
            "client_ip: the peer %s is private and sends X-Forwarded-For or Forwarded, so it "
            "is a proxy, and its address is used for every visitor: set "
            'client_ip=TrustedProxies(["%s"])'
        )
        logger.warning(message, address, address)


def not_forwarded(peer: str, header: str) -> None:
    """Warn once that a trusted proxy's address is taken for a visitor's."""
    if _first(f"not forwarded: {header}"):
        message = (
            "client_ip: the trusted proxy %s sent no %s, so its own address is used: let it "
            "send the header, or let the server keep it (waitress: trusted_proxy and "
            "trusted_proxy_headers)"
        )
        logger.warning(message, peer, header)


_logged: set[str] = set()


def _first(key: str) -> bool:
    if key in _logged:
        return False
    _logged.add(key)
    return True


_handlers = RateLimit()  # for handlers, which belong to no guard


def captcha_required(place: str, rule: str | None, error: CaptchaRequired) -> None:
    """Report a request that reached a handler around the gate."""
    _handlers.log(
        logging.ERROR,
        "%s: refused: %s",
        place,
        error,
        kind=(place, rule),
    )


def broken_hook(rule: Origin, hook: str, error: Exception) -> None:
    """Report a hook of the application that failed, without what its errors say.

    The hook has seen the request, so their texts may contain the ticket.
    """
    stacks, errors = list[str](), list[BaseException]()
    cause: BaseException | None = error
    while cause is not None and cause not in errors:
        errors.append(cause)
        # The package's own errors name no value of a request.
        text = f": {cause}" if isinstance(cause, TCaptchaError) else " (text left out)"
        frames = "".join(traceback.format_tb(cause.__traceback__))
        stacks.append(f"{frames}{type(cause).__name__}{text}")
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    rule.rate_limit.log(
        logging.ERROR,
        "%s: %s failed\n%s",
        rule.name,
        hook,
        "\ncaused by:\n".join(stacks),
        kind=(rule.name, hook, type(error)),
    )


def no_verdict(rule: Origin, error: VerifierError) -> None:
    """Report why a verdict is missing."""
    misconfigured = isinstance(error, MisconfiguredError)
    level = logging.ERROR if misconfigured else logging.WARNING
    message = "%s: the captcha is misconfigured: %s" if misconfigured else "%s: no verdict: %s"
    # Without the RequestId, which differs for each call.
    rule.rate_limit.log(
        level, message, rule.name, error, kind=(rule.name, type(error), *map(str, error.args))
    )


def overloaded(rule: Origin, limit: int) -> None:
    """Report a request that got no verification slot in time."""
    message = "%s: all %d verification slots were busy for too long"
    rule.rate_limit.log(logging.WARNING, message, rule.name, limit, kind=(rule.name, "slots"))


def replay_store_failed(rule: Origin, error: Exception, *, proceed: bool) -> None:
    """Report that a ticket could not be claimed, and what follows."""
    then = "the vendor alone refuses reuse" if proceed else "the request is refused"
    rule.rate_limit.log(
        logging.ERROR,
        "%s: the replay store failed (%s); %s",
        rule.name,
        error if isinstance(error, ReplayStoreError) else type(error).__name__,
        then,
    )


def release_failed(rule: Origin, error: Exception) -> None:
    """Report a claim that stays until it expires, so its visitor has to solve again."""
    rule.rate_limit.log(
        logging.WARNING, "%s: a claim was not released (%s)", rule.name, type(error).__name__
    )


def replay_store_skipped(failures: int, pause: float) -> None:
    """Log that the replay store is no longer asked, except now and then."""
    logger.error(
        "the replay store failed %d times in a row: skipping it; one request tries every %g s",
        failures,
        pause,
    )


def replay_store_answers() -> None:
    """Log that a skipped replay store is used again."""
    logger.warning("the replay store answers again")


def redis_evicts() -> None:
    """Log that claims may be deleted before they expire."""
    logger.warning(
        "Redis evicts keys (INFO: evicted_keys grows), so used tickets may be forgotten: give "
        "the replay store a Redis with maxmemory-policy noeviction"
    )


def budget_spent(rule: Origin, per_minute: int) -> None:
    """Report that the fail-open budget is spent."""
    rule.rate_limit.log(
        logging.WARNING, "%s: refused: the %d a minute are spent", rule.name, per_minute
    )


def let_through(rule: Origin, reason: str) -> None:
    """Report that a request passed without a verdict."""
    rule.rate_limit.log(logging.ERROR, "%s: LET THROUGH UNCHECKED: %s", rule.name, reason)


def would_refuse(rule: Origin, reason: Reason) -> None:
    """Report what a rule that only observes would have refused."""
    rule.rate_limit.log(logging.WARNING, "%s: would be refused: %s", rule.name, reason)


def broken_verifier(rule: Origin, error: Exception, submission: Submission) -> None:
    """Report a failure of the verifier itself, without the pair."""
    text = "".join(traceback.format_exception(error))
    for secret in (submission.ticket, submission.randstr):
        if len(secret) >= _SECRET_LENGTH:
            literals = secret, repr(secret)[1:-1], json.dumps(secret)[1:-1]
            # As in the URL that a client of HTTP names in its errors.
            encoded = quote(secret), quote(secret, safe=""), quote_plus(secret)
            for spelling in (*literals, *encoded):
                text = text.replace(spelling, "[removed]")
    rule.rate_limit.log(
        logging.ERROR,
        "%s: the verifier failed\n%s",
        rule.name,
        text,
        kind=(rule.name, type(error)),
    )


def connection_not_cut(error: Exception) -> None:
    """Report a connection that cannot be shut, so a slow client keeps its thread."""
    logger.error("a slow client's connection cannot be shut: %r", error)


def cannot_close(resource: object, error: Exception) -> None:
    """Report what could not be closed; the others are closed in any case."""
    logger.error("%s cannot be closed: %r", type(resource).__name__, error)


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


def on_change_failed(verifier: object, error: Exception) -> None:
    """Report a hook for changes of the health that failed."""
    name, text = type(verifier).__name__, "".join(traceback.format_exception(error))
    logger.error("%s: the hook for changes of its health failed\n%s", name, text)


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


@cache  # once in each process
def foreign_endpoint(origin: str) -> None:
    """Report that verifications do not go to Tencent."""
    logger.warning(
        "verifications go to %s, which is not Tencent's; right only in tests", origin
    )


@cache  # once in each process
def ignored_proxy(variable: str) -> None:
    """Report why calls may fail although the environment has a proxy."""
    message = "Tencent did not answer; %s is set, and ignored: pass proxy= to the verifier"
    logger.warning(message, variable)
