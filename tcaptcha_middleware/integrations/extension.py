"""What the extensions for Flask and Quart have in common; imports neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, overload

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
from tcaptcha_middleware.integrations.marked_middleware import locked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from tcaptcha_middleware.integrations.marked_guard import GuardSettings
    from tcaptcha_middleware.rules import Rule
    from tcaptcha_middleware.settings import RuleSettings
    from tcaptcha_middleware.types import Verifier

V = TypeVar("V", bound="Callable[..., Any]")
_NAME = "tcaptcha"  # in `app.extensions`


class Extension(ABC):
    """Marks views, and puts the gate in front of applications.

    Args:
        app: The application; None to call `init_app` later.
        verifier: Verifies tickets; the configuration's `TCAPTCHA_VERIFIER` by default.
        rules: Rules for unmarked handlers; the configuration's `TCAPTCHA_RULES` by default.
        settings: More arguments of `Guard`; `page` is the configuration's `TCAPTCHA_PAGE` by
            default.

    Raises:
        ConfigurationError: If a setting is not valid, or the verifier is missing.
    """

    def __init__(
        self,
        app: Any = None,
        verifier: Verifier | None = None,
        rules: Sequence[Rule | str] | None = None,
        **settings: Unpack[GuardSettings],
    ) -> None:
        self._verifier = verifier
        self._rules = rules
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Put the gate in front of the marked views of an application.

        Views and blueprints may be added later.

        Raises:
            ConfigurationError: If a setting is not valid, the verifier is missing, or the
                application has such a gate.
        """
        if _NAME in app.extensions:
            raise ConfigurationError(f"init_app was called twice for {app!r}: call it once")
        verifier, rules = self._verifier, self._rules
        if verifier is None:
            verifier = app.config.get("TCAPTCHA_VERIFIER")
        if verifier is None:
            raise ConfigurationError(
                "TCaptcha needs a verifier: pass one, such as TCaptcha(app, "
                'TencentVerifier.from_env()), or set app.config["TCAPTCHA_VERIFIER"]'
            )
        if rules is None:
            rules = app.config.get("TCAPTCHA_RULES", ())
        arguments = {"page": app.config.get("TCAPTCHA_PAGE"), **self._settings}
        arguments |= {"verifier": verifier, "rules": rules}
        guard = MarkedGuard(app, arguments, _Routes(app))
        self._put_in_front(app, guard)
        app.extensions[_NAME] = guard

    @overload
    def required(self, view: V) -> V: ...

    @overload
    def required(
        self,
        *,
        methods: Sequence[str] = (),
        verifier: Verifier | None = None,
        **settings: Unpack[RuleSettings],
    ) -> Callable[[V], V]: ...

    def required(
        self, view: Any = None, *, methods: Sequence[str] = (), **settings: Any
    ) -> Any:
        """Mark a view: it is called only with a solved captcha.

        Write it below the decorator for the route, so it gets the view first.

        Args:
            view: The function, sync or async.
            methods: The methods that need a ticket, such as `["POST"]`; by default every one
                that the view answers.
            verifier: Verifies the view's tickets; None for the application's verifier.
            settings: Arguments of `Rule`, for this view.

        Raises:
            ConfigurationError: If a setting is not valid, or the view has a mark.
        """

        def decorate(view: V) -> V:
            return locked(view, settings, methods, lambda *_: self._holder())

        return decorate if view is None else decorate(view)

    @abstractmethod
    def _put_in_front(self, app: Any, guard: MarkedGuard) -> None:
        """Put the framework's middleware around an application."""

    @abstractmethod
    def _holder(self) -> Mapping[str, Any]:
        """Return the WSGI environ or ASGI scope of the current request."""


class _Routes:
    """What grows with each URL and each view of an application."""

    def __init__(self, app: Any) -> None:
        self._views = app.view_functions
        self._urls = 0
        add = app.url_map.add

        def counting(rule: object) -> None:
            add(rule)
            self._urls += 1

        # No attribute has their number: two URLs of one view are in the same entry.
        app.url_map.add = counting

    def __len__(self) -> int:
        """Return their number, of the URLs only those that were added since."""
        return self._urls + len(self._views)
