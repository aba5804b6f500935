"""The plugin for Litestar; imports no other framework."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

from litestar.middleware import DefineMiddleware
from litestar.plugins.base import InitPlugin, ReceiveRoutePlugin

from tcaptcha_middleware.asgi import TCaptchaMiddleware, closes_on_shutdown
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.integrations.openapi import describe
from tcaptcha_middleware.operations.startup import report_dead_rules

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.config.app import AppConfig
    from litestar.openapi.config import OpenAPIConfig
    from litestar.openapi.spec import OpenAPI

    from tcaptcha_middleware.asgi import Receive, Scope, Send
    from tcaptcha_middleware.guard import Guard

_PASSED = "tcaptcha_litestar"


class TCaptchaPlugin(InitPlugin, ReceiveRoutePlugin):
    """Put the gate in front of a Litestar application, behind its CORS configuration.

    The guard's page is served, the OpenAPI document describes the captcha, and the guard is
    closed on shutdown, except on AWS Lambda.

    Litestar runs `middleware` and `before_request` behind its router: not for paths without a
    route, such as the page's, and with the path of a mounted application cut off. So the gate
    takes the router's place, which sees every request as the server made it.

    Args:
        guard: What to protect, and how.
    """

    __slots__ = ("guard",)

    def __init__(self, guard: Guard) -> None:
        self.guard: Guard = guard

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what needs no application: the second lock, the document, the shutdown."""
        lock: Any = _SecondLock
        app_config.middleware.insert(0, DefineMiddleware(lock, guard=self.guard))
        if app_config.openapi_config is not None:
            app_config.openapi_config = _describing(app_config.openapi_config, self.guard)
        app_config.on_startup.append(self._report_dead_rules)
        if closes_on_shutdown():
            app_config.on_shutdown.append(self.guard.aclose)
        return app_config

    def _report_dead_rules(self, app: Litestar) -> None:
        report_dead_rules(app, self.guard)

    def receive_route(self, route: Any) -> None:
        """Put the gate around the router when the first route is registered.

        No hook of Litestar gets the application earlier, and the next one runs on startup, for
        which not every server asks.
        """
        handler = getattr(route, "route_handler", None) or route.route_handlers[0]
        app = handler.ownership_layers[0]
        if self.guard not in getattr(app.asgi_router, "guards", ()):
            app.asgi_router = _GatedRouter(app.asgi_router, self.guard)


class _GatedRouter:
    """Litestar's router, with the gate in front of it."""

    def __init__(self, router: Any, guard: Guard) -> None:
        self._router = router
        self._gate = TCaptchaMiddleware(router, guard)
        self.guards: tuple[Guard, ...] = (*getattr(router, "guards", ()), guard)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[_PASSED] = (*scope.get(_PASSED, ()), self._gate.guard)
        await self._gate(scope, receive, send)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


class _SecondLock(TCaptchaMiddleware):
    """Reject requests that did not pass the gate, should Litestar no longer call the router.

    Its type and arguments are what `tcaptcha check` looks for.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.guard not in scope.get(_PASSED, ()):
            raise ConfigurationError(
                "the gate of TCaptchaPlugin is not in front of this application: give it a "
                "route on construction, or wrap it in TCaptchaMiddleware instead"
            )
        await self.app(scope, receive, send)


def _describing(config: OpenAPIConfig, guard: Guard) -> OpenAPIConfig:
    """Return a copy whose documents describe the captcha, however they are asked for."""

    def to_openapi_schema() -> OpenAPI:
        openapi = config.to_openapi_schema()
        to_schema = openapi.to_schema
        vars(openapi)["to_schema"] = lambda: describe(to_schema(), guard)
        return openapi

    copied = copy(config)
    vars(copied)["to_openapi_schema"] = to_openapi_schema
    return copied
