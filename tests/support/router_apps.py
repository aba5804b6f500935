"""What the applications of `router_asgi` and `router_wsgi` have in common; see `gated_apps`."""

from __future__ import annotations

from tcaptcha_middleware import Guard
from tcaptcha_middleware.testing import FakeVerifier

GUARDS = {
    "": Guard(
        [
            "UNSAFE /login",
            "UNSAFE /any",
            "UNSAFE /sign_in",
            "UNSAFE /kiosk/sign-in",
            "UNSAFE /ma\u00df-\u00b5\u03c2",
            "POST /users/",
            "DELETE /users/{id}/",
        ],
        FakeVerifier(),
    ),
    # The rule names the path that visitors see, the mount included.
    "full": Guard(["POST /api/login"], FakeVerifier()),
}


def require(request):
    """Refuse a request that no gate has judged: the second lock of a handler."""
    from tcaptcha_middleware import require_captcha

    require_captcha(request)


def gates(middleware, apps):
    """Return each application by its name and that of the gate in front of it."""
    gated = {
        (name, gate): middleware(app, guard)
        for name, app in apps.items()
        for gate, guard in GUARDS.items()
    }
    return gated | {(name, "ungated"): app for name, app in apps.items()}
