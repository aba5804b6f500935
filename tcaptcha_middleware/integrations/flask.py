"""Flask: an extension that marks views.

    captcha = TCaptcha()

    @app.post("/login")
    @captcha.required
    def login(): ...

    captcha.init_app(app)

The decorator is not the gate, but the second lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask import request

from tcaptcha_middleware.integrations.extension import Extension
from tcaptcha_middleware.integrations.marked_middleware import MarkedWSGIMiddleware
from tcaptcha_middleware.validation import is_async

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tcaptcha_middleware.integrations.marked_guard import MarkedGuard
    from tcaptcha_middleware.models import RequestInfo


class TCaptcha(Extension):
    """Marks views, and puts the gate in front of Flask applications; see `Extension`."""

    _hooks = ("client_ip", "responder", "when")

    def _put_in_front(self, app: Any, guard: MarkedGuard) -> None:
        app.wsgi_app = MarkedWSGIMiddleware(app.wsgi_app, guard)

    def _in_context(self, app: Any, hook: Callable[..., Any]) -> Callable[..., Any]:
        # The gate rejects an async one.
        return hook if is_async(hook) else _InContext(app, hook)

    def _holder(self) -> Mapping[str, Any]:
        return request.environ


@dataclass(frozen=True)
class _InContext:
    """Calls a hook in the request context of an application, which is then torn down."""

    app: Any
    hook: Callable[..., Any]

    def __call__(self, info: RequestInfo, *more: Any) -> Any:
        # Before it shows the captcha, a page asks about a request that it will send.
        asked = {
            "REQUEST_METHOD": info.method,
            "PATH_INFO": info.path.encode().decode("latin-1"),
            "QUERY_STRING": info.query.decode("latin-1"),
        }
        context = self.app.request_context({**info.raw, **asked})
        # The view needs the body, so reading it raises here.
        context.request.shallow = True
        with context:
            return self.hook(info, *more)
