"""What the applications of `router_asgi` and `router_wsgi` have in common; see `gated_apps`."""

from __future__ import annotations

from tcaptcha_middleware import Guard
from tcaptcha_middleware.testing import FakeVerifier

GUARDS = {
    "": Guard(
        [
            "/login",
            "POST /users/",
            "DELETE /users/{id}/",
            "POST /kiosk/sign-in",
            "POST /ma\u00df-\u00b5\u03c2",
            "/any",
            "POST /sign_in",
        ],
        FakeVerifier(),
    ),
    # The rule names the path that visitors see, the mount included.
    "full": Guard(["POST /api/login"], FakeVerifier()),
}


def gates(middleware, apps):
    """Return each application by its name and that of the gate in front of it."""
    gated = {
        (name, gate): middleware(app, guard)
        for name, app in apps.items()
        for gate, guard in GUARDS.items()
    }
    return gated | {(name, "ungated"): app for name, app in apps.items()}
