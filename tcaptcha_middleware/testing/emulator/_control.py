"""The emulator's control API: its schema, in Python and over HTTP, and its JSON endpoints.

Values are checked when they are given: a mistake that shows only in the answer to a later call
would look like Tencent's. No I/O.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

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

_LONGEST = sys.float_info.max


class _Value(NamedTuple):
    """What a word's value has to be, in words and as a check."""

    wanted: str
    fits: Callable[[Any], bool]


def _is_integer(value: object) -> bool:
    # Not isinstance: true is an int to Python, and no code to Tencent, whose numbers have 64
    # bits.
    return type(value) is int and -(2**63) <= value < 2**63


def _is_share(value: object) -> bool:
    return type(value) is int and 0 <= value <= 100  # noqa: PLR2004  per cent


def _is_duration(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LONGEST


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


_TICKET = {
    "kind": _Value('"web" or "mini"', lambda v: v in ("web", "mini")),
    "code": _Value("an integer", _is_integer),
    "evil_level": _Value("an integer from 0 to 100", _is_share),
    "score": _Value("an integer from 0 to 100, or None", lambda v: v is None or _is_share(v)),
    "age": _Value("a number of seconds, 0 or more", _is_duration),
    "app_id": _Value("an integer above 0", lambda v: _is_integer(v) and v > 0),
}
_STEP = {
    "latency": _Value("a number of seconds, 0 or more", _is_duration),
    "error": _Value(
        'an API error\'s code, such as "InternalError"', lambda v: v and _is_text(v)
    ),
    "code": _Value("an integer", _is_integer),
    "status": _Value(
        "an integer from 200 to 599", lambda v: _is_integer(v) and v in range(200, 600)
    ),
    "drop": _Value("True or False", lambda v: isinstance(v, bool)),
    "content_type": _Value("printable ASCII text", _is_text),
}
# What the answer for a mini-program's ticket has no room for.
_WEB_ONLY = ("evil_level", "score")
_ANSWERS = ("error", "code", "status")
_TRUE = _Value("True: leave it out otherwise", lambda v: v is True)
_CHALLENGE = {
    "latency": _STEP["latency"],
    "ticket": _Value("a dict of what is said of a ticket", lambda v: isinstance(v, dict)),
    "skip": _TRUE,
    "close": _TRUE,
    "hang": _TRUE,
    "error": _Value(
        "an integer from 1001 to 1013", lambda v: _is_integer(v) and v in range(1001, 1014)
    ),
}
_LOAD = {
    "latency": _STEP["latency"],
    "status": _STEP["status"],
    "broken": _TRUE,
    "throw": _Value('"constructor" or "show"', lambda v: v in ("constructor", "show")),
}
_SAID = {
    "script": _Value("text", lambda v: isinstance(v, str)),
    "appId": _Value("text", lambda v: isinstance(v, str)),
    "options": _Value("a JSON object", lambda v: isinstance(v, dict)),
}


def check_ticket(told: object) -> dict[str, Any]:
    """Return a copy of what is said of a ticket, if it makes sense.

    Raises:
        TypeError: It is no dict, or holds another word than the known ones.
        ValueError: A value that does not fit its word, or a word that does not fit its kind.
    """
    ticket = _checked("a ticket", told, _TICKET)
    if ticket.get("kind") == "mini":
        for name in _WEB_ONLY:
            if name in ticket:
                raise ValueError(f"nothing tells {name} of a mini-program's ticket")
    return ticket


def check_step(told: object) -> dict[str, Any]:
    """Return a copy of one step of a script, if it makes sense.

    Raises:
        TypeError: It is no dict, or holds another word than the known ones.
        ValueError: A value that does not fit its word, or two answers to one call.
    """
    step = _checked("a step", told, _STEP)
    _check_alone("a call has one answer", step, _ANSWERS)
    return step


def check_challenge(told: object) -> dict[str, Any]:
    """Return a copy of how one challenge goes, if it makes sense.

    Raises:
        TypeError: It is no dict, or holds another word than the known ones.
        ValueError: A value that does not fit its word, or two ends of one challenge.
    """
    step = _checked("a challenge", told, _CHALLENGE)
    for solved in ("ticket", "skip"):
        _check_alone("a challenge has one end", step, (solved, "close", "hang", "error"))
    if "ticket" in step:
        step["ticket"] = check_ticket(step["ticket"])
    return step


def check_load(told: object) -> dict[str, Any]:
    """Return a copy of how one load of the script goes, if it makes sense.

    Raises:
        TypeError: It is no dict, or holds another word than the known ones.
        ValueError: A value that does not fit its word, or two failures of one load.
    """
    step = _checked("a load", told, _LOAD)
    _check_alone("a load fails in one way", step, ("status", "broken", "throw"))
    return step


def check_said(told: object) -> dict[str, Any]:
    """Return a copy of what `TencentCaptcha.js` says of a challenge that it asks for.

    Raises:
        TypeError: It is no dict, or holds another word than the known ones.
        ValueError: A word is missing, or its value does not fit.
    """
    said = _checked("a challenge that is asked for", told, _SAID)
    missing = ", ".join(name for name in _SAID if name not in said)
    if missing:
        raise ValueError(f"{missing} is missing: TencentCaptcha.js says all of it")
    return said


def _check_alone(rule: str, step: Mapping[str, Any], rivals: tuple[str, ...]) -> None:
    found = [name for name in rivals if name in step]
    if len(found) > 1:
        raise ValueError(f"{rule}, not {' and '.join(found)}")


def _checked(what: str, told: object, known: Mapping[str, _Value]) -> dict[str, Any]:
    if not isinstance(told, dict):
        raise TypeError(f"{what} is a dict, over HTTP a JSON object, and not {told!r}")
    unknown = ", ".join(sorted(map(str, told.keys() - known)))
    if unknown:
        raise TypeError(f"{unknown} is unknown here: use {', '.join(sorted(known))}")
    for name, value in told.items():
        if not known[name].fits(value):
            raise ValueError(f"{name} is {value!r}: it has to be {known[name].wanted}")
    return dict(told)


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
