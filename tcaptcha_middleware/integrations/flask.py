"""Flask: an extension that marks views.

    captcha = TCaptcha()

    @app.post("/login")
    @captcha.required
    def login(): ...

    captcha.init_app(app)

The decorator is not the gate, but the second lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import request

from tcaptcha_middleware.integrations.extension import Extension
from tcaptcha_middleware.integrations.marked_middleware import MarkedWSGIMiddleware

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.integrations.marked_guard import MarkedGuard


class TCaptcha(Extension):
    """Marks views, and puts the gate in front of Flask applications; see `Extension`."""

    def _put_in_front(self, app: Any, guard: MarkedGuard) -> None:
        app.wsgi_app = MarkedWSGIMiddleware(app.wsgi_app, guard)

    def _holder(self) -> Mapping[str, Any]:
        return request.environ
