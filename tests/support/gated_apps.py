"""What the applications of `gated_asgi` and `gated_wsgi` have in common.

Every handler names itself in the header `X-Handler`, and answers with what it saw. A request
says in `X-App` which framework it is for, and whether it goes there through the gate or past
it: `flask`, or `flask ungated`; and in `X-Root` where it is mounted. That is read outside the
gate, so that the target comes to gate and framework as the server made it.
"""

from __future__ import annotations

import hashlib
import json

from tcaptcha_middleware import Guard
from tcaptcha_middleware.testing import FakeVerifier

# Each handler's name, path and methods; `{}` is where the path has a variable.
ROUTES = [
    ("login", "/login", ["POST"]),
    ("page", "/page", ["GET"]),
    ("free", "/free", ["POST"]),
    ("health", "/admin/health", ["POST"]),
    ("admin", "/admin/secret", ["GET", "POST"]),
    ("code", "/users/{}/code", ["POST"]),
    ("sms", "/sms/{}", ["POST"]),
    ("other", "/été/1", ["POST"]),
]
MOUNTED = [("mounted", "/login", ["POST"])]  # below /mount
GUARD = Guard(
    [
        "POST /login",
        "GET /page",
        "/admin/**",
        "POST /mount/login",
        "POST /users/{id}/code",
        "POST /sms/{phone}",
        "GET /socket",
    ],
    FakeVerifier(),
    exempt=["POST /admin/health"],
)


def told(name: str, method: str, path: str, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the answer of the handler `name`: its body and headers."""
    saw = {"method": method, "path": len(path), "sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(saw).encode(), {"X-Handler": name}
