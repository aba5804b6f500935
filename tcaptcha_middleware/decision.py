"""How a handler asks what the gate decided, whatever framework it is written in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tcaptcha_middleware.asgi import SCOPE_KEY
from tcaptcha_middleware.models import Allow
from tcaptcha_middleware.wsgi import ENVIRON_KEY


def get_decision(request: Any) -> Allow | None:
    """Return what the gate decided about `request`; None where no rule covers it.

    Args:
        request: A request or websocket of FastAPI, Starlette, Quart, Flask, Django, Bottle,
            Pyramid or Falcon; or an ASGI scope or a WSGI environ itself.

    Raises:
        TypeError: It is none of these.
    """
    for holder, key in (("scope", SCOPE_KEY), ("environ", ENVIRON_KEY), ("env", ENVIRON_KEY)):
        inner = getattr(request, holder, None)
        if isinstance(inner, Mapping):
            return _allow(inner.get(key))
    if isinstance(request, Mapping):
        return _allow(request.get(SCOPE_KEY) or request.get(ENVIRON_KEY))
    raise TypeError(f"{type(request).__name__} holds neither an ASGI scope nor a WSGI environ")


def _allow(found: object) -> Allow | None:
    return found if isinstance(found, Allow) else None
