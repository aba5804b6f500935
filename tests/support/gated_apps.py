"""What the applications of `gated_asgi` and `gated_wsgi` have in common.

Every handler names itself in the header `X-Handler`, and answers with what it saw. A request
says in `X-App` which framework it is for, and which of `gates` is in front: `flask`, or `flask
ungated`; and in `X-Root` its mount. Both are read outside the gate: gate and framework get the
target as the server made it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from tcaptcha_middleware import Guard, Rule
from tcaptcha_middleware.testing import FakeVerifier

if TYPE_CHECKING:
    from collections.abc import Callable

# Each handler's name, path and methods; `{}` is a variable of the path.
ROUTES = [
    ("login", "/login", ["POST"]),
    ("page", "/page", ["GET"]),
    ("free", "/free", ["POST"]),
    ("health", "/admin/health", ["POST"]),
    ("admin", "/admin/secret", ["GET", "POST"]),
    ("code", "/users/{}/code", ["POST"]),
    ("sms", "/sms/{}", ["POST"]),
    ("other", "/été/1", ["POST"]),
    ("every", "/every", ["DELETE", "OPTIONS", "PATCH", "POST", "PUT"]),
]
MOUNTED = [("mounted", "/login", ["POST"])]  # below /mount


class OwnTickets(FakeVerifier):
    """Pass only tickets that begin with `prefix`, as a captcha passes only its own tickets."""

    def __init__(self, prefix: str) -> None:
        super().__init__()
        self._prefix = prefix

    def verify(self, submission):
        if submission.ticket.startswith(self._prefix):
            return super().verify(submission)
        return FakeVerifier(8).verify(submission)


GUARD = Guard(
    [
        # Weaker than the later rules: no target that they match may be judged by it.
        Rule("/comments", mode="observe"),
        Rule("UNSAFE /weak/**", when=lambda _: False),
        "POST /login",
        "GET /page",
        "/admin/**",
        "POST /mount/login",
        "POST /users/{id}/code",
        "POST /sms/{phone}",
        "GET /socket",
        "/every",
    ],
    FakeVerifier(),
    exempt=["POST /admin/health"],
)
# No target may reach a strict rule's handler through a weak rule.
WEAK_FIRST = Guard(
    [
        Rule("GET,POST /comments", mode="observe"),
        Rule("/assets/**", when=lambda request: False),
        Rule("/news/{id}", percent=0),
        Rule("/partner", verifier=OwnTickets("partner")),
        "POST /login",
        "POST /users/{id}/code",
        "GET /page",
        "GET /socket",
        "/every",
    ],
    OwnTickets("tr03"),
)
ANY_METHOD = Guard(["/login"], FakeVerifier())


def gates(middleware: Callable, overriding: Callable) -> dict[str, Callable]:
    """Return the gates that can be in front of an application, by their name in `X-App`.

    Args:
        middleware: The gate of the application's protocol.
        overriding: A middleware of the same protocol that changes the method; see `override`.
    """
    return {
        "": lambda app: middleware(app, GUARD),
        "ungated": lambda app: app,
        "weak": lambda app: middleware(app, WEAK_FIRST),
        "overridden": lambda app: middleware(overriding(app), ANY_METHOD),
        "twice": lambda app: middleware(overriding(middleware(app, ANY_METHOD)), ANY_METHOD),
    }


def override(method: str, query: str, header: str) -> str:
    """Return the method that the query's `_method` or the header `X-Verb` names."""
    return (header or parse_qs(query).get("_method", [method])[0]).upper()


def answer_of(name: str, method: str, path: str, body: bytes) -> tuple[bytes, dict[str, str]]:
    """Return the answer of the handler `name`: its body and headers."""
    saw = {"method": method, "path": len(path), "sha256": hashlib.sha256(body).hexdigest()}
    return json.dumps(saw).encode(), {"X-Handler": name}
