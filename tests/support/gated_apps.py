"""What the applications of `gated_asgi` and `gated_wsgi` have in common.

Every handler names itself in the header `X-Handler`, and answers with what it saw. A request
says in `X-App` which framework it is for, and whether it goes there through the gate or past
it: `flask`, or `flask ungated`. That is read outside the gate, so that the target of each
request comes to gate and framework as the server made it.
"""

from __future__ import annotations

import hashlib
import json

from tcaptcha_middleware import Guard
from tcaptcha_middleware.testing import FakeVerifier

PROTECTED = ["login", "page", "admin", "mounted", "code", "sms", "socket"]
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
