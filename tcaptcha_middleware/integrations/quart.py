"""Quart: an extension that marks views.

    captcha = TCaptcha()

    @app.post("/login")
    @captcha.required
    async def login(): ...

    captcha.init_app(app)

The decorator is not the gate, but the second lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import has_websocket_context, request, websocket

from tcaptcha_middleware.integrations.extension import Extension
from tcaptcha_middleware.integrations.marked_middleware import MarkedMiddleware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.integrations.marked_guard import MarkedGuard


class TCaptcha(Extension):
    """Marks views, and puts the gate in front of Quart applications; see `Extension`."""

    def _put_in_front(self, app: Any, guard: MarkedGuard) -> None:
        app.asgi_app = MarkedMiddleware(app.asgi_app, guard)

    def _holder(self) -> Mapping[str, Any]:
        scope: Mapping[str, Any] = (websocket if has_websocket_context() else request).scope
        return scope
