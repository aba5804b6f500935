"""The emulator's control API: the schema of its settings, and its endpoints over HTTP.

Values are validated when they are given. Otherwise the mistake would show in the answer to a
later call, and look like Tencent's. No I/O.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from tcaptcha_middleware.testing.emulator._http import Response, json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PREFIX = "/__emulator__/"
"""The prefix of all paths of the control API."""

# Any origin: pages under test have many names, and tests written in JavaScript run in them.
# Another page gains nothing that it could not send without reading the response: responses
# hold no secret, and a ticket is valid for this emulator only.
_ANY_ORIGIN = (
    ("access-control-allow-origin", "*"),
    ("access-control-allow-methods", "POST"),
    ("access-control-allow-headers", "content-type"),
)


class _Value(NamedTuple):
    """A value in the schema: its description in an error, and its test."""

    wanted: str
    fits: Callable[[Any], bool]


def _is_integer(value: object) -> bool:
    # Not isinstance(), which accepts True. Tencent's numbers have 64 bits.
    return type(value) is int and -(2**63) <= value < 2**63


def _is_percentage(value: object) -> bool:
    return type(value) is int and value in range(101)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


_TRUE = _Value("True, or left out", lambda v: v is True)
_SECONDS = _Value(
    "a number of seconds, 0 or more",
    lambda v: type(v) in (int, float) and 0 <= v <= sys.float_info.max,
)
_STATUS = _Value(
    "an integer from 200 to 599", lambda v: _is_integer(v) and v in range(200, 600)
)
_TICKET = {
    "kind": _Value('"web" or "mini"', lambda v: v in ("web", "mini")),
    "code": _Value("an integer", _is_integer),
    "evil_level": _Value("an integer from 0 to 100", _is_percentage),
    "score": _Value(
        "an integer from 0 to 100, or None", lambda v: v is None or _is_percentage(v)
    ),
    "age": _SECONDS,
    "app_id": _Value("an integer above 0", lambda v: _is_integer(v) and v > 0),
}
_CALL = {
    "latency": _SECONDS,
    "error": _Value(
        'the code of an API error, such as "InternalError"', lambda v: v and _is_text(v)
    ),
    "code": _Value("an integer", _is_integer),
    "status": _STATUS,
    "drop": _Value("True or False", lambda v: isinstance(v, bool)),
    "content_type": _Value("printable ASCII text", _is_text),
}
CHALLENGE = {
    "latency": _SECONDS,
    "ticket": _Value("a dict of the ticket's properties", lambda v: isinstance(v, dict)),
    "skip": _TRUE,
    "close": _TRUE,
    "hang": _TRUE,
    "error": _Value(
        "an integer from 1001 to 1013", lambda v: _is_integer(v) and v in range(1001, 1014)
    ),
}
LOAD = {
    "latency": _SECONDS,
    "status": _STATUS,
    "broken": _TRUE,
    "throw": _Value('"constructor" or "show"', lambda v: v in ("constructor", "show")),
}
_REQUEST = {
    "script": _Value("text", lambda v: isinstance(v, str)),
    "appId": _Value("text", lambda v: isinstance(v, str)),
    "options": _Value("a JSON object", lambda v: isinstance(v, dict)),
}


class Steps:
    """A queue of validated steps.

    Args:
        validate: Returns a copy of a valid step; raises TypeError or ValueError.
    """

    def __init__(self, validate: Callable[[object], dict[str, Any]]) -> None:
        self._validate = validate
        self._queue: deque[dict[str, Any]] = deque()

    def add(self, *steps: object) -> None:
        """Append all steps, or none if one of them is invalid."""
        self._queue.extend([self._validate(step) for step in steps])

    def take(self) -> dict[str, Any]:
        """Remove and return the next step; an empty one if the queue is empty."""
        try:
            return self._queue.popleft()
        except IndexError:
            return {}


def validate_ticket(value: object) -> dict[str, Any]:
    """Return a copy of a ticket's properties.

    Raises:
        TypeError: If `value` is not a dict, or has an unknown key.
        ValueError: If a value is not valid, or does not apply to this kind of ticket.
    """
    ticket = _validate("a ticket", value, _TICKET)
    if ticket.get("kind") == "mini":
        for name in ("evil_level", "score"):
            if name in ticket:
                raise ValueError(f"{name} does not apply to a mini-program's ticket")
    return ticket


def validate_call(value: object) -> dict[str, Any]:
    """Return a copy of the step for one call.

    Raises:
        TypeError: If `value` is not a dict, or has an unknown key.
        ValueError: If a value is not valid, or the step has two answers.
    """
    step = _validate("a call's step", value, _CALL)
    _require_one("a call has one answer", step, ("error", "code", "status"))
    return step


def validate_challenge(value: object) -> dict[str, Any]:
    """Return a copy of the step for one challenge.

    Raises:
        TypeError: If `value` is not a dict, or has an unknown key.
        ValueError: If a value is not valid, or the challenge ends in two ways.
    """
    step = _validate("a challenge's step", value, CHALLENGE)
    for solved in ("ticket", "skip"):
        _require_one("a challenge ends in one way", step, (solved, "close", "hang", "error"))
    if "ticket" in step:
        step["ticket"] = validate_ticket(step["ticket"])
    return step


def validate_load(value: object) -> dict[str, Any]:
    """Return a copy of the step for one load of the script.

    Raises:
        TypeError: If `value` is not a dict, or has an unknown key.
        ValueError: If a value is not valid, or the load fails in two ways.
    """
    step = _validate("a load's step", value, LOAD)
    _require_one("a load fails in one way", step, ("status", "broken", "throw"))
    return step


def validate_request(value: object) -> dict[str, Any]:
    """Return a copy of a page's request for a challenge, as `TencentCaptcha.js` sends it.

    Raises:
        TypeError: If `value` is not a dict, or has an unknown key.
        ValueError: If a key is missing, or a value is not valid.
    """
    request = _validate("a request for a challenge", value, _REQUEST)
    missing = ", ".join(name for name in _REQUEST if name not in request)
    if missing:
        raise ValueError(f"missing key {missing}: TencentCaptcha.js sends all three")
    return request


def _require_one(rule: str, step: Mapping[str, Any], rivals: tuple[str, ...]) -> None:
    names = [name for name in rivals if name in step]
    if len(names) > 1:
        raise ValueError(f"{rule}, got {' and '.join(names)}")


def _validate(what: str, value: object, schema: Mapping[str, _Value]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be a dict (over HTTP a JSON object), got {value!r}")
    unknown = ", ".join(sorted(map(str, value.keys() - schema)))
    if unknown:
        raise TypeError(f"unknown key {unknown}: use {', '.join(sorted(schema))}")
    for name, item in value.items():
        if not schema[name].fits(item):
            raise ValueError(f"{name} must be {schema[name].wanted}, got {item!r}")
    return dict(value)


def dispatch(
    endpoints: Mapping[str, Callable[[object], Response]], method: str, path: str, body: bytes
) -> Response:
    """Answer a request to the control API.

    Args:
        endpoints: Called with the decoded JSON, by path; they may raise TypeError or
            ValueError.
        method: The request's method; `OPTIONS` for a preflight.
        path: The request's path.
        body: JSON; an empty body counts as an empty object.
    """
    if path not in endpoints:
        response = json_response(404, {"error": f"unknown path: use {', '.join(endpoints)}"})
    elif method == "OPTIONS":
        response = Response(204, b"", allow="POST")
    elif method != "POST":
        response = json_response(405, {"error": "use POST"})._replace(allow="POST")
    else:
        try:
            response = endpoints[path](json.loads(body or b"{}"))
        except (ValueError, TypeError, RecursionError) as error:
            response = json_response(400, {"error": str(error)})
    return response._replace(headers=_ANY_ORIGIN)
