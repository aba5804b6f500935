"""State machine that decides if the verifier's service is up, suspect or down.

Only `down` may open a gate that fails open, and only failed probes of our own lead there. The
module takes the outcomes of verifications and probes, and a clock. It makes no call, starts no
thread and never waits.

    up ------- a verification or a probe failed -----------------------> suspect
    suspect -- two probes failed, and nothing was answered meanwhile --> down
    down ----- the last failed probe is old ---------------------------> suspect
    any ------ a verification or a probe was answered -----------------> up

A failure is one that an outage causes. Whatever is local or unclear, such as DNS, a lack of
files or a cancelled request, proves nothing and changes no state.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from enum import Enum, StrEnum
from math import ceil, inf
from typing import TYPE_CHECKING, TypeAlias

from tcaptcha_middleware.errors import OutageError, VerifierError
from tcaptcha_middleware.health.limits import FLOOR

if TYPE_CHECKING:
    from collections.abc import Callable

    from tcaptcha_middleware.health.limits import Slots

# -- When probes run ------

UNANSWERED = 0.7
"""Seconds without an answer after which verifications under way request a probe. Ordinary
answers are several times faster, and a service that accepts no connection is found in time."""
INTERVAL = 1.0
"""Seconds from the beginning of a probe to the next one, times a random factor: at most one
probe per second, and the end of an outage is found within two."""
JITTER = (1.0, 1.6)
"""The random factor; ±20 % would stay in step with a service that flaps."""
# Without a state that forked processes would share, or that an application seeds.
_uniform = random.SystemRandom().uniform
BACKOFF = 10.0
"""The longest interval, in seconds, after probes that proved nothing."""
IDLE = 120.0
"""Seconds without a visitor after which probing ends."""

PROBE_LIMIT = 2.0
"""Seconds for a probe: one lost SYN (1 s, RFC 6298) and three round trips across an ocean."""
PROBE_LIMIT_AFTER_FAILURE = 1.5
"""Seconds for each probe after one that failed: the second one establishes an outage early
enough, and a connection that hangs across the recovery delays it by less than 2 s."""

# -- What establishes an outage ------

APART = 0.8
"""Two failed probes establish an outage only if they began so many seconds apart, so a blip or
a load balancer's reload is none."""
LONGEST_GAP = 30.0
"""Seconds between the beginnings of two failed probes, after which two are needed again: the
process was stopped (SIGSTOP), or probes in between proved nothing."""
FRESH = 4.6
"""Seconds for which the last failed probe proves an outage: the longest interval, and two
probes that take all of their time. After that, the thread has stopped, or probes are void."""

# -- Our own load, which must not look like an outage ------

PROMPT = 1.0
"""Seconds within which a failed probe did not wait behind verifications that were given up."""
STILL_QUEUED = 30.0
"""Seconds for which the service may still be working on a verification that was given up."""

# -- What is reported ------

THREAD_LATE = 2.0
"""Seconds after which a thread that has not begun its first probe is reported, and after the
probe's limit one that has not ended it: uWSGI runs no threads without `enable-threads`."""
FAILING = 10.0
"""Seconds of failed verifications beside answered probes after which that is reported: probes
may be answered at the service's edge, where no ticket is verified."""
ANSWERS_WITHIN = 0.5
"""Seconds that an answer to a probe may take, for `Retry-After`."""


class State(StrEnum):
    """What is known of the verifier's service.

    Attributes:
        UP: It answers, as far as is known.
        SUSPECT: A verification failed like an outage; probes find out.
        DOWN: Our own probes have established an outage.
    """

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"


class Warn(Enum):
    """What an operator should know beside changes of the state."""

    NO_THREADS = "probes do not run"
    ONLY_PROBES = "probes are answered, verifications fail"


Notice: TypeAlias = tuple[State, State] | Warn
"""A change of the state, from the old one to the new one, or a warning."""


class Monitor:
    """The state machine, and a context manager: `with monitor:` is one verification.

    Args:
        slots: The concurrency limit, lowered while the service is not known to be up.
        react: Called, without a lock, if there are notices to take or a probe may be needed.
        clock: A monotonic clock, in seconds.
        uniform: A replacement for `random.uniform`.

    Attributes:
        is_up: If no failure is known; the state without the clock.
        under_way: How many verifications are under way.
        notices: What happened, in order; `react` takes it.
        failure: Why the last failed probe failed.
    """

    def __init__(
        self,
        slots: Slots,
        react: Callable[[], object],
        clock: Callable[[], float],
        uniform: Callable[[float, float], float] = _uniform,
    ) -> None:
        self._slots = slots
        self._react = react
        self._clock = clock
        self._uniform = uniform
        self.reset()

    def reset(self) -> None:
        """Return to the first state, with a new lock: a fork may copy one that is held."""
        self.is_up: bool
        self.under_way: int
        self.failure: str
        # Reentrant, because garbage collection may end a request at any point.
        self._lock = threading.RLock()
        self.notices: deque[Notice] = deque()
        # The state: up; or else down until a time, which is over while it is suspect.
        self.is_up = True
        self._down_until = -inf
        self._reported_state = State.UP
        # Verifications. More than FLOOR that were given up are not distinguished.
        self.under_way = 0
        self._given_up_at: deque[float] = deque(maxlen=FLOOR + 1)
        self._unanswered_since = -inf
        self._failing_since: float | None = None
        self._visited_at = -inf
        # The last answer to a verification or a probe.
        self._answered_at = -inf
        # The thread that runs probes, and by when it is late.
        self._has_thread = False
        self._thread_due = inf
        # Probes. A failed one is dated by its beginning.
        self._probe_wanted = self._probe_runs = False
        self._probe_began = self._next_probe = self._probe_answered_at = -inf
        self._first_failed = self._last_failed = -inf
        self._void_probes = 0
        self.failure = ""

    # -- The state, read without a lock ------

    @property
    def state(self) -> State:
        """The state. To read it counts as a visit."""
        if self.is_up:
            return State.UP
        now = self._visited_at = self._clock()
        return self._state_at(now)

    def _state_at(self, now: float) -> State:
        if self.is_up:
            return State.UP
        return State.DOWN if now < self._down_until else State.SUSPECT

    @property
    def retry_after(self) -> int:
        """Whole seconds until a probe can have been answered."""
        delay = 0.0 if self._probe_runs else max(0.0, self._next_probe - self._clock())
        return ceil(delay + ANSWERS_WITHIN)

    # -- Visitors: what makes the service suspect, and requests a probe ------

    def __enter__(self) -> None:
        """Begin a verification."""
        now = self._clock()
        with self._lock:
            if self.under_way == 0:
                self._unanswered_since = now
            elif now - self._unanswered_since > UNANSWERED:
                self._probe_wanted = True
            self.under_way += 1
            self._visited_at = now
            if now > self._thread_due:
                self._thread_due = inf
                self.notices.append(Warn.NO_THREADS)
        if self._probe_wanted or not self.is_up:
            self._react()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Learn from how the verification ended."""
        now = self._clock()
        with self._lock:
            if error is not None and isinstance(error, (OutageError, TimeoutError)):
                self._verification_failed(error, now)
            elif error is None or (isinstance(error, VerifierError) and error.answered):
                # Also a revoked key or a throttled account: the service is up.
                self._failing_since = None
                self._answered_at = self._unanswered_since = now
                if self._probe_wanted or not self.is_up:
                    self._recover(now)
                if self._slots.is_cut:
                    self._slots.grow()
            elif not isinstance(error, Exception):
                self._given_up_at.append(now)  # cancelled: the service still works on it
            # A fork may have reset the count while a request of its parent was under way.
            if self.under_way:
                self.under_way -= 1
        if self.notices or self._probe_wanted:
            self._react()

    def _verification_failed(self, error: Exception, now: float) -> None:
        is_timeout = any(isinstance(each, TimeoutError) for each in (error, error.__cause__))
        if is_timeout or getattr(error, "timed_out", False):
            self._given_up_at.append(now)
            if self.under_way > FLOOR:
                self._slots.halve(now)
        self.is_up = False
        self._probe_wanted = True
        if self._failing_since is None:
            self._failing_since = now
        elif (
            self._probe_answered_at > self._failing_since
            and now - self._failing_since >= FAILING
        ):
            self._failing_since = inf  # reported once, until a verification is answered
            self.notices.append(Warn.ONLY_PROBES)
        self._report(now)

    def request_probe(self) -> None:
        """Request a probe without a failure, unless there was an answer just now."""
        now = self._visited_at = self._clock()
        if now - self._answered_at > UNANSWERED:
            with self._lock:
                self._probe_wanted = True
            self._react()

    def close(self) -> None:
        """Let the thread end, as if no visitor had come for a long time."""
        self._visited_at = -inf

    # -- The thread: when it runs probes ------

    def claim_thread(self) -> bool:
        """Return whether a thread is missing; it is then the caller who has to start it."""
        with self._lock:
            if self._has_thread or not (self._probe_wanted or not self.is_up):
                return False
            self._has_thread = True
            if self._thread_due == inf:  # an earlier thread may have failed to start
                self._thread_due = max(self._clock(), self._next_probe) + THREAD_LATE
            return True

    def thread_ended(self) -> None:
        """Note that the thread could not be started, or died."""
        self._has_thread = False

    def until_probe(self) -> float | None:
        """Return the seconds until the next probe, or None if the thread has to end."""
        with self._lock:
            now = self._clock()
            is_idle = now - self._visited_at > IDLE
            if not is_idle and (self._probe_wanted or not self.is_up):
                return max(0.0, self._next_probe - now)
            self._probe_wanted = self._has_thread = False
            self._thread_due = inf
            return None

    # -- Probes: what makes the service down, and up again ------

    def probe_began(self) -> float:
        """Note that a probe begins; return the seconds that it may take."""
        with self._lock:
            now = self._probe_began = self._clock()
            after_failure = now - self._last_failed < LONGEST_GAP
            limit = PROBE_LIMIT_AFTER_FAILURE if after_failure else PROBE_LIMIT
            self._next_probe = now + INTERVAL * self._uniform(*JITTER)
            self._thread_due = now + limit + THREAD_LATE
            self._probe_runs = True
            return limit

    def probe_answered(self) -> None:
        """Note that a probe was answered, however late: an answer can only close the gate."""
        with self._lock:
            now = self._clock()
            self._end_probe()
            self._answered_at = self._unanswered_since = self._probe_answered_at = now
            self._recover(now)
        self._react()

    def probe_failed(self, reason: str, *, connected: bool) -> None:
        """Note that a probe failed like an outage.

        Args:
            reason: Why, for the log.
            connected: If a connection was accepted.
        """
        with self._lock:
            now, began = self._clock(), self._probe_began
            self._end_probe()
            load = self.under_way
            if now - began > PROMPT:
                load += sum(time > began - STILL_QUEUED for time in self._given_up_at)
            if connected and load > FLOOR:
                # It may have waited behind our own verifications, so it proves nothing. If
                # nothing was answered meanwhile, the service still works on what was given up.
                self._slots.cut(FLOOR if self._answered_at > began else 1)
            else:
                self.failure = reason
                self.is_up = self._probe_wanted = False
                self._void_probes = 0
                if began > self._answered_at:  # otherwise something was answered meanwhile
                    if began - self._last_failed > LONGEST_GAP:
                        self._first_failed = began
                    elif began - self._first_failed >= APART:
                        self._down_until = now + FRESH
                    self._last_failed = began
                self._report(now)
        self._react()

    def probe_void(self) -> None:
        """Note that a probe proved nothing. The next one waits longer."""
        with self._lock:
            self._end_probe()
            delay = INTERVAL * self._uniform(*JITTER) * 2**self._void_probes
            self._next_probe = self._probe_began + min(BACKOFF, delay)
            self._void_probes = min(self._void_probes + 1, 4)

    def _end_probe(self) -> None:
        self._probe_runs = False
        self._thread_due = inf

    # -- Transitions, with the lock held ------

    def _recover(self, now: float) -> None:
        self.is_up = True
        self._probe_wanted = False
        self._down_until = self._first_failed = self._last_failed = -inf
        self._void_probes = 0
        self._thread_due = inf
        # The interval after void probes was longer.
        self._next_probe = min(self._next_probe, now + INTERVAL * max(JITTER))
        self._report(now)

    def _report(self, now: float) -> None:
        state = self._state_at(now)
        if state is not self._reported_state:
            self.notices.append((self._reported_state, state))
            self._reported_state = state
            self._slots.narrow(state is not State.UP)
