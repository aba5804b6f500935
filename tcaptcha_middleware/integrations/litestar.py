"""The plugin for Litestar, and handlers that are marked by their `opt`.

    @post("/login", opt={"tcaptcha": True})
    async def login() -> str: ...

    app = Litestar([login], plugins=[TCaptchaPlugin(verifier=TencentVerifier.from_env())])

Imports no other framework.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from litestar.middleware import DefineMiddleware
from litestar.plugins.base import InitPlugin, ReceiveRoutePlugin

from tcaptcha_middleware.asgi import TCaptchaMiddleware, closes_on_shutdown
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
from tcaptcha_middleware.integrations.marked_middleware import MarkedMiddleware, require_marked
from tcaptcha_middleware.integrations.marks import OPTION, Mark, mark_in_options
from tcaptcha_middleware.integrations.openapi import describe
from tcaptcha_middleware.integrations.routes.litestar import own_handlers
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.operations.log import logger
from tcaptcha_middleware.operations.startup import report_dead_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Unpack

    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.openapi.config import OpenAPIConfig
    from litestar.openapi.spec import OpenAPI

    from tcaptcha_middleware.asgi import Receive, Scope, Send
    from tcaptcha_middleware.guard import GuardSettings
    from tcaptcha_middleware.rules import Rule
    from tcaptcha_middleware.types import Verifier

_PASSED = "tcaptcha_litestar"


class TCaptchaPlugin(InitPlugin, ReceiveRoutePlugin):
    """Put the gate in front of a Litestar application, behind its CORS configuration.

    The guard's page is served, the OpenAPI document describes the captcha, and the guard is
    closed on shutdown, except on AWS Lambda.

    Litestar runs `middleware` and `before_request` behind its router: not for paths without a
    route, such as the page's, and with the path of a mounted application cut off. So the gate
    takes the router's place, which sees every request as the server made it.

    With a verifier instead of a guard, `opt={"tcaptcha": True}` marks a handler, or all of a
    router or controller. A dict has arguments of `Rule`, and `methods`. Such a plugin is for
    one application, to which handlers may be added later.

    Args:
        guard: What to protect, and how.
        verifier: Verifies the tickets of marked handlers.
        rules: Rules for unmarked handlers.
        settings: More arguments of `Guard`.

    Attributes:
        guard: The guard. With a verifier, it has the rules of the marked handlers, too.
        app: With a verifier, the application, as soon as it has a route.

    Raises:
        ConfigurationError: If a setting is not valid.
    """

    __slots__ = ("_gated", "_received", "app", "guard")

    def __init__(
        self,
        guard: Guard | None = None,
        *,
        verifier: Verifier | None = None,
        rules: Sequence[Rule | str] = (),
        **settings: Unpack[GuardSettings],
    ) -> None:
        self.app: Litestar | None = None
        # A handler that is added at a path of another one does not make `app.routes` longer.
        self._received: list[object] = []
        self._gated: list[_GatedRouter] = []
        self.guard: Guard | MarkedGuard
        if isinstance(guard, Guard) and verifier is None and not rules and not settings:
            self.guard = guard
        elif guard is None and verifier is not None:
            arguments = {"verifier": verifier, "rules": rules, **settings}
            self.guard = MarkedGuard(self, arguments, self._received)
            self.guard.guard.require("async")
        else:
            raise ConfigurationError(
                "write TCaptchaPlugin(verifier=…, rules=[…]) for marked handlers, or "
                "TCaptchaPlugin(guard), where guard is a Guard"
            )

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what needs no application: the second lock, the document, the shutdown."""
        if len(_reading_marks(app_config.plugins)) > 1:
            raise ConfigurationError(
                "an application has two TCaptchaPlugin(verifier=…): leave one of them"
            )
        lock: Any = _SecondLock
        app_config.middleware.insert(0, DefineMiddleware(lock, guard=self.guard))
        if app_config.openapi_config is not None:
            app_config.openapi_config = _describing(app_config.openapi_config, self.guard)
        app_config.on_startup.append(self._check_rules)
        if closes_on_shutdown():
            app_config.on_shutdown.append(self.guard.aclose)
        return app_config

    def _check_rules(self, app: Litestar) -> None:
        if isinstance(self.guard, MarkedGuard):
            self.guard.refresh()  # raises if no rule can express a route
        list(read(app))  # raises if a mounted application has marks that nothing reads
        report_dead_rules(app, self.guard)
        for gated in self._gated:
            gated.gate.rules_reported = True

    def receive_route(self, route: Any) -> None:
        """Put the gate around the router when the first route is registered.

        No hook of Litestar gets the application earlier, and the next one runs on startup, for
        which not every server asks.
        """
        handlers = own_handlers(route)
        app = handlers[0].ownership_layers[0]
        reading = _reading_marks(app.plugins)
        if self in reading:
            if self.app not in (None, app):
                raise ConfigurationError(
                    "two applications have the same TCaptchaPlugin(verifier=…): make another "
                    "for each"
                )
            self.app = app
        if self in reading or not reading:
            for handler in handlers:
                self._mark(handler)
        # Litestar's own handler for OPTIONS inherits the options of a router.
        for handler in getattr(route, "route_handlers", ()):
            if handler not in handlers:
                handler.opt.pop(OPTION, None)
        if self in reading:
            self._received.append(route)  # read from now on, also by other threads
        if self.guard not in getattr(app.asgi_router, "guards", ()):
            app.asgi_router = _GatedRouter(app.asgi_router, self.guard)
            self._gated.append(app.asgi_router)

    def _mark(self, handler: Any) -> None:
        """Replace the option that a handler has from all layers by its mark."""
        option = handler.opt.get(OPTION, False)
        if option is False or isinstance(option, Mark):
            return
        try:
            handler.opt[OPTION] = self._parsed(option, handler)
        except (ConfigurationError, TypeError) as error:
            raise ConfigurationError(
                f'{handler} has opt={{"{OPTION}": {option!r}}}: {error}'
            ) from error

    def _parsed(self, option: object, handler: Any) -> Mark:
        if not isinstance(self.guard, MarkedGuard):
            raise ConfigurationError(
                "TCaptchaPlugin(guard) reads no marks: write TCaptchaPlugin(verifier=…)"
            )
        if getattr(handler, "is_mount", False):
            raise ConfigurationError(
                "a mount cannot be marked: write False there, and give its application a "
                "plugin, or name its paths in rules"
            )
        if option is True:
            return Mark()
        if not isinstance(option, dict):
            raise ConfigurationError("write True, False or a dict of arguments of Rule")
        settings = {name: value for name, value in option.items() if name != "methods"}
        return Mark(settings, option.get("methods", ()))


def _reading_marks(plugins: Iterable[object]) -> list[TCaptchaPlugin]:
    own = [plugin for plugin in plugins if isinstance(plugin, TCaptchaPlugin)]
    return [plugin for plugin in own if isinstance(plugin.guard, MarkedGuard)]


class _GatedRouter:
    """Litestar's router, with the gate in front of it."""

    def __init__(self, router: Any, guard: Guard | MarkedGuard) -> None:
        self._router = router
        self.gate = (
            MarkedMiddleware(router, guard)
            if isinstance(guard, MarkedGuard)
            else TCaptchaMiddleware(router, guard)
        )
        self.guards: tuple[object, ...] = (*getattr(router, "guards", ()), guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PASSED] = (*scope.get(_PASSED, ()), self.gate.guard)
        try:
            await self.gate(scope, receive, send)
        except ConfigurationError as error:
            # About a handler that was added later. It is raised in front of Litestar's router,
            # so Litestar does not log it.
            logger.error("%s", error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


class _SecondLock(TCaptchaMiddleware):
    """Reject requests that did not pass the gate, or not as their handler's mark demands.

    Its type and arguments are what `tcaptcha check` looks for.
    """

    def __init__(self, app: Any, guard: Any) -> None:
        self.app = app
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler: Any = scope["route_handler"]
        mark = mark_in_options(handler)
        if mark is not None and mark.concerns(scope):
            require_marked(scope, mark, handler.fn)
        if self.guard not in scope.get(_PASSED, ()):
            raise ConfigurationError(
                "the gate of TCaptchaPlugin is not in front of this application: give it a "
                "route on construction, or wrap it in TCaptchaMiddleware instead"
            )
        await self.app(scope, receive, send)


def _describing(config: OpenAPIConfig, guard: Guard | MarkedGuard) -> OpenAPIConfig:
    """Return a copy whose documents describe the captcha, however they are asked for."""

    def to_openapi_schema() -> OpenAPI:
        openapi = config.to_openapi_schema()
        to_schema = openapi.to_schema
        vars(openapi)["to_schema"] = lambda: describe(to_schema(), guard)
        return openapi

    copied = copy(config)
    vars(copied)["to_openapi_schema"] = to_openapi_schema
    return copied
