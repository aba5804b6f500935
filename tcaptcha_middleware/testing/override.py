"""Use another verifier in a guard while a test runs."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.rules import without_verifiers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from tcaptcha_middleware.types import Verifier


class Overridable(Protocol):
    """What keeps a guard for marked handlers."""

    def overridden(self, verifier: Verifier) -> AbstractContextManager[None]:
        """Use another verifier while the context lasts."""
        ...


@contextmanager
def override(guard: Guard | Overridable, verifier: Verifier) -> Iterator[None]:
    """Use another verifier for all rules of a guard while the context lasts.

    Rules with their own verifier use it too, so no test calls a real service. The
    replay store stays: send another pair with each request. Health begins with `up`. Affects
    all threads.

    Args:
        guard: The guard of the application, from which nothing has to be changed; for marked
            handlers what `protect` returned, `app.extensions["tcaptcha"]` or `plugin.guard`.
        verifier: Such as a `FakeVerifier`. An ASGI application needs `averify`, a WSGI
            application `verify`.

    Raises:
        ConfigurationError: If the guard's settings cannot work with this verifier.
    """
    if not isinstance(guard, Guard):
        with guard.overridden(verifier):
            yield
        return
    rules = without_verifiers(guard.rules)
    # A guard is immutable for its users; all that its methods read are its attributes.
    attributes = vars(guard).copy()
    vars(guard).update(vars(replace(guard, rules=rules, verifier=verifier)))
    try:
        yield
    finally:
        vars(guard).update(attributes)
