"""Quart: an extension that marks views.

    captcha = TCaptcha()

    @app.post("/login")
    @captcha.required
    async def login(): ...

    captcha.init_app(app)

The decorator is not the gate, but the second lock.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quart import has_websocket_context, request, websocket

from tcaptcha_middleware.integrations.extension import Extension
from tcaptcha_middleware.integrations.marked_middleware import MarkedMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
    from tcaptcha_middleware.models import RequestInfo


class TCaptcha(Extension):
    """Marks views, and puts the gate in front of Quart applications; see `Extension`."""

    # A context of Quart has to be awaited, and the other hooks are plain functions.
    _hooks = ("when",)

    def _put_in_front(self, app: Any, guard: MarkedGuard) -> None:
        app.asgi_app = MarkedMiddleware(app.asgi_app, guard)

    def _in_context(self, app: Any, hook: Callable[..., Any]) -> Callable[..., Any]:
        return _InContext(app, hook)

    def _holder(self) -> Mapping[str, Any]:
        scope: Mapping[str, Any] = (websocket if has_websocket_context() else request).scope
        return scope


@dataclass(frozen=True)
class _InContext:
    """Calls a hook in the request or websocket context of an application."""

    app: Any
    hook: Callable[..., Any]

    async def __call__(self, info: RequestInfo) -> Any:
        # Before it shows the captcha, a page asks about a request that it will send.
        asked = {"method": info.method, "path": info.path, "query_string": info.query}
        async with self._context({**info.raw, **asked}):
            result = self.hook(info)
            return await result if inspect.isawaitable(result) else result

    def _context(self, scope: Mapping[str, Any]) -> Any:
        # Quart has no public function that makes a request of a scope.
        if scope["type"] == "websocket":
            connection = self.app.asgi_websocket_class(self.app, scope)
            handshake = connection._create_websocket_from_scope(None)  # noqa: SLF001
            return self.app.websocket_context(handshake)
        connection = self.app.asgi_http_class(self.app, scope)
        own_request = connection._create_request_from_scope(None)  # noqa: SLF001
        own_request.body_timeout = 0  # the view needs the body, so reading it raises here
        return self.app.request_context(own_request)
