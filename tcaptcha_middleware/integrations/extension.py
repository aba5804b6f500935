"""What the extensions for Flask and Quart have in common; imports neither."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.client_ip import TrustedProxies, peer_address
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
from tcaptcha_middleware.integrations.marked_middleware import Required
from tcaptcha_middleware.tencent.credentials import VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Unpack

    from tcaptcha_middleware.guard import GuardSettings
    from tcaptcha_middleware.rules import Rule
    from tcaptcha_middleware.settings import Settings
    from tcaptcha_middleware.types import Verifier

_NAME = "tcaptcha"  # in `app.extensions`
_KEYS = ("TCAPTCHA_VERIFIER", "TCAPTCHA_RULES", "TCAPTCHA_PAGE")


class Extension(ABC):
    """Marks views, and puts the gate in front of applications.

    Args:
        app: The application; None to call `init_app` later.
        verifier: Verifies tickets; the configuration's `TCAPTCHA_VERIFIER` by default.
        rules: Rules for unmarked handlers; the configuration's `TCAPTCHA_RULES` by default.
        settings: More arguments of `Guard`; `page` is the configuration's `TCAPTCHA_PAGE` by
            default.

    Attributes:
        required: Marks a view; see `Required`.

    Raises:
        ConfigurationError: If a setting is not valid, or the verifier is missing.
    """

    _hooks: tuple[str, ...]  # the settings that are called in the context

    def __init__(
        self,
        app: Any = None,
        verifier: Verifier | None = None,
        rules: Sequence[Rule | str] | None = None,
        **settings: Unpack[GuardSettings],
    ) -> None:
        self.required: Required = Required(lambda *_: self._holder())
        self._verifier = verifier
        self._rules = rules
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Any) -> None:
        """Put the gate in front of the marked views of an application.

        Views and blueprints may be added later.

        Raises:
            ConfigurationError: If a setting is not valid, the verifier is missing, nothing
                reads a key `TCAPTCHA_…` of the configuration, or the application has such a
                gate.
        """
        if _NAME in app.extensions:
            raise ConfigurationError(f"init_app was called twice for {app!r}: call it once")
        for key in app.config:
            if key.startswith("TCAPTCHA_") and key not in (*_KEYS, *VARIABLES):
                raise ConfigurationError(
                    f"nothing reads app.config[{key!r}]: the keys are {', '.join(_KEYS)}; pass "
                    "other settings to TCaptcha(…)"
                )
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
        guard = MarkedGuard(app, arguments, _Routes(app), partial(self._with_context, app))
        self._put_in_front(app, guard)
        app.extensions[_NAME] = guard

    @abstractmethod
    def _put_in_front(self, app: Any, guard: MarkedGuard) -> None:
        """Put the framework's middleware around an application."""

    def _with_context(self, app: Any, settings: Settings) -> Settings:
        hooks = {name: getattr(settings, name) for name in self._hooks}
        own: dict[str, Any] = {
            name: self._in_context(app, hook)
            for name, hook in hooks.items()
            if hook not in (None, peer_address) and not isinstance(hook, TrustedProxies)
        }
        return replace(settings, **own) if own else settings

    @abstractmethod
    def _in_context(self, app: Any, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that calls a hook in a context of an application."""

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
