"""`MarkedGuard`: the guard of an application whose rules come from marks on its handlers."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from tcaptcha_middleware.decision import get_decision
from tcaptcha_middleware.guard import Guard, aclose_all, close_all
from tcaptcha_middleware.integrations.marks import mark_of_route, marked_rules
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.integrations.routes.rule_set import NOTHING_MARKED
from tcaptcha_middleware.models import Unchecked
from tcaptcha_middleware.operations import Switch
from tcaptcha_middleware.operations.log import logger
from tcaptcha_middleware.replay.memory import MemoryReplayStore
from tcaptcha_middleware.rules import AmbiguousTarget, CompiledRule, Rule, without_verifiers
from tcaptcha_middleware.scoped import renew_after_fork
from tcaptcha_middleware.strictness import suffices
from tcaptcha_middleware.validation import validate_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sized

    from tcaptcha_middleware.findings import Finding
    from tcaptcha_middleware.health.health import Health
    from tcaptcha_middleware.integrations.marks import Mark
    from tcaptcha_middleware.integrations.routes.route import Route
    from tcaptcha_middleware.models import Allow
    from tcaptcha_middleware.settings import Settings
    from tcaptcha_middleware.types import Verifier

# A guard needs a rule, and no client sends this.
_NOTHING = Rule("CONNECT /", name=NOTHING_MARKED)
# What limits the requests that a rule lets through unchecked.
_LIMITS = ("budget", "disaster_per_ip", "disaster_seen")
_READ_PAUSE = 1.0  # between readings that requests cause, in seconds


class _Current(NamedTuple):
    """A guard with the rules of marked handlers, which are its first ones."""

    guard: Guard
    derived: list[Rule]
    required: dict[Mark, CompiledRule | None]


class MarkedGuard:
    """Keeps a guard with a rule for each marked handler, and makes a new one for new routes.

    It has the attributes and methods of the current `Guard`, too.

    Args:
        app: The application whose routes are read.
        arguments: The arguments of `Guard`; its `rules` are those for unmarked handlers.
        routes: What grows with each route; its length is compared for each request.
        adapted: Returns the settings that are used instead of a rule's; equal ones for equal
            ones.

    Attributes:
        guard: The guard for a request that begins now, if `refresh` is not due.

    Raises:
        ConfigurationError: If an argument is not valid.
    """

    def __init__(
        self,
        app: object,
        arguments: Mapping[str, Any],
        routes: Sized,
        adapted: Callable[[Settings], Settings] = lambda settings: settings,
    ) -> None:
        validate_list("rules", arguments["rules"])
        shared: dict[str, Any] = {"replay_store": MemoryReplayStore(), "switch": Switch()}
        self._app = app
        self._arguments = shared | dict(arguments)
        self._routes = routes
        self._adapted = adapted
        self._verifier: Verifier | None = None  # instead of all others, in tests
        self._healths: dict[int, Health] = {}
        self._verifiers: dict[int, Verifier] = {}
        self._use(self._with([], ()))
        self._counted = -1
        self._read_at = 0.0
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Begin in a child process, where a lock may be held that nothing releases."""
        self._lock = threading.Lock()

    @property
    def is_stale(self) -> bool:
        """Whether `refresh` is due."""
        return len(self._routes) != self._counted

    @property
    def mounted_at(self) -> str:
        """The argument of `Guard`, for which no route has to be read."""
        return self.guard.mounted_at

    def refresh(self) -> None:
        """Read the routes, and make a new guard if other handlers are marked.

        Raises:
            ConfigurationError: If no rule can express the route of a marked handler.
        """
        was_read = self._read()
        if was_read and not self._current.derived and not self._arguments["rules"]:
            logger.warning(
                "no handler is marked, and there are no rules: nothing needs a captcha"
            )

    def _read(self) -> bool:
        """Read the routes if they are not those that were read; return whether it did."""
        with self._lock:
            counted, self._read_at = len(self._routes), time.monotonic()
            if counted == self._counted:
                return False  # another thread has done it
            derived = marked_rules(self._app, self._own_mark)
            if derived != self._current.derived:
                self._use(self._with(derived, _compiled(self.guard)))
            self._counted = counted
            return True

    def _use(self, current: _Current) -> None:
        self._current = current
        self.guard: Guard = current.guard

    @contextmanager
    def overridden(self, verifier: Verifier) -> Iterator[None]:
        """Use another verifier for all rules while the context lasts, also for new routes.

        Args:
            verifier: Verifies every ticket.

        Raises:
            ConfigurationError: If the settings cannot work with this verifier.
        """
        with self._lock:
            before = self._healths, self._verifiers, self._verifier, self._current
        try:
            with self._lock:
                self._healths, self._verifiers, self._verifier = {}, {}, verifier
                self._use(self._with(self._current.derived, ()))
            yield
        finally:
            with self._lock:
                self._healths, self._verifiers, self._verifier, current = before
                self._use(current)
                self._counted = -1  # routes may have been added

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the current guard, such as `public_settings`."""
        if name.startswith("_"):
            raise AttributeError(name)
        if self.is_stale:
            self._read()  # perhaps before the first handler is written
        return getattr(self.guard, name)

    def close(self) -> None:
        """Close the current guard; see `Guard.close`."""
        self.guard.close()
        close_all(*self._retired())

    async def aclose(self) -> None:
        """Async version of `close`; no route is read, which could fail."""
        await self.guard.aclose()
        await aclose_all(*self._retired())

    def _retired(self) -> tuple[list[Verifier], list[Health]]:
        """Return the verifiers that only removed routes had, and their healths."""
        keys = self._verifiers.keys() - {id(rule.verifier) for rule in _compiled(self.guard)}
        return [self._verifiers[key] for key in keys], [self._healths[key] for key in keys]

    def covers(self, app: object) -> list[Finding]:
        """Compare the rules with the routes of an application; see `Guard.covers`."""
        return check(app, cast("Guard", self))

    def allowed(self, holder: Mapping[str, Any], mark: Mark) -> Allow | None:
        """Return the decision that lets a request call a marked handler, or None.

        Args:
            holder: The ASGI scope or WSGI environ.
            mark: The handler's mark.
        """
        decision = get_decision(holder)
        while decision is not None:
            checked = decision.unchecked is not Unchecked.PREFLIGHT
            if checked and self._suffices(decision, mark):
                return decision
            decision = decision.outer
        if time.monotonic() - self._read_at >= _READ_PAUSE:
            self._counted = -1
        return None

    def _suffices(self, decision: Allow, mark: Mark) -> bool:
        current = self._current
        if mark not in current.required:
            wanted = mark.rule.settings, mark.rule.verifier
            pairs = zip(current.derived, _compiled(current.guard), strict=False)
            same = (own for rule, own in pairs if (rule.settings, rule.verifier) == wanted)
            current.required[mark] = next(same, None)
        required = current.required[mark]
        judge = decision.target[0] if decision.target else None
        judges = judge.rules if isinstance(judge, AmbiguousTarget) else (judge,)
        return required is not None and any(
            isinstance(rule, CompiledRule) and suffices(rule, required) for rule in judges
        )

    def _with(self, derived: list[Rule], earlier: tuple[CompiledRule, ...]) -> _Current:
        rules = [*derived, *self._arguments["rules"]] or [_NOTHING]
        arguments = self._arguments | {"rules": rules}
        if self._verifier is not None:
            arguments |= {"rules": without_verifiers(rules), "verifier": self._verifier}
        guard = Guard(**arguments)
        for rule in _compiled(guard):
            self._verifiers[id(rule.verifier)] = rule.verifier
            # What was learned is kept. The service's state is reported for the new rules.
            health = self._healths.setdefault(id(rule.verifier), rule.health)
            health._on_change = rule.health._on_change  # noqa: SLF001
            object.__setattr__(rule, "health", health)
            object.__setattr__(rule, "settings", self._adapted(rule.settings))
            if earlier:
                object.__setattr__(rule, "shared", earlier[0].shared)
            for same in (old for old in earlier if _is_same(old, rule)):
                for name in _LIMITS:
                    object.__setattr__(rule, name, getattr(same, name))
        return _Current(guard, derived, {})

    def _own_mark(self, route: Route) -> Mark | None:
        guards: list[object] = [gate.guard for gate in route.gates]
        innermost = [guard for guard in guards if isinstance(guard, MarkedGuard)][-1:]
        # A mounted application may be protected by itself.
        return mark_of_route(route) if innermost in ([], [self]) else None


def _is_same(old: CompiledRule, new: CompiledRule) -> bool:
    same_target = (old.name, old.pattern) == (new.name, new.pattern)
    return same_target and old.verifier is new.verifier and old.settings == new.settings


def _compiled(guard: Guard) -> tuple[CompiledRule, ...]:
    return guard._rules  # noqa: SLF001  in their order
