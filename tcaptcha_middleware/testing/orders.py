"""What the emulator is told over HTTP, by tests and by pages: JSON in, JSON out.

Knows nothing of what the orders mean.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tcaptcha_middleware.testing.emulator._http import Answer, in_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "/__emulator__/"
"""What the paths of all orders start with."""

# Any origin: the page under test may be served under any name, and tests written in JavaScript
# run inside it. A page from elsewhere gains nothing by it that it could not post blindly: the
# answers hold no secret, and a ticket is good for this emulator alone.
_ANY_ORIGIN = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "POST"),
    ("access-control-allow-headers", "content-type"),
)


def obey(
    orders: Mapping[str, Callable[[object], Answer]], method: str, path: str, body: bytes
) -> Answer:
    """Return the answer to one order; one that makes no sense is told why.

    Args:
        orders: What carries out an order, by its path; raises TypeError or ValueError.
        method: The request's method; a preflight's is `OPTIONS`.
        path: The request's path.
        body: JSON, or nothing for an empty object.
    """
    return _obeyed(orders, method, path, body)._replace(headers=_ANY_ORIGIN)


def _obeyed(
    orders: Mapping[str, Callable[[object], Answer]], method: str, path: str, body: bytes
) -> Answer:
    if path not in orders:
        return in_json(404, {"error": f"there is {' and '.join(orders)}"})
    if method == "OPTIONS":
        return Answer(204, b"", allow="POST")
    if method != "POST":
        return in_json(405, {"error": "POST it"})._replace(allow="POST")
    try:
        return orders[path](json.loads(body or b"{}"))
    except (ValueError, TypeError, RecursionError) as error:
        return in_json(400, {"error": str(error)})
