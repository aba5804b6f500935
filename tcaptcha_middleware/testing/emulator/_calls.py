"""Reads calls to the emulator as strictly as Tencent: signature, time, action, parameters.

Every failure is an `ApiError` with the code that Tencent documents for it. No I/O.

https://www.tencentcloud.com/document/api/215/38340
"""

from __future__ import annotations

import hmac
import json
import re
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.tencent.api import VERSION, authorization

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.tencent.credentials import Credentials

MAX_CALL = 10 * 1024 * 1024
"""Maximum size of a call's body, in bytes."""

_MAX_SKEW = 5 * 60
"""Maximum difference between a call's timestamp and the clock, in seconds."""

_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<date>\d{4}-\d\d-\d\d)/captcha/tc3_request, ?"
    r"SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=[0-9a-f]{64}"
)
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_UINT64 = range(2**64)
_INT64 = range(-(2**63), 2**63)
_TEXT = ""
_ACTIONS = {action.name: action for action in (WEB, MINI_PROGRAM)}

# Text, or the range of an integer.
REQUIRED: dict[str, str | range] = {
    "CaptchaType": _UINT64,
    "Ticket": _TEXT,
    "UserIp": _TEXT,
    "Randstr": _TEXT,
    "CaptchaAppId": _UINT64,
    "AppSecretKey": _TEXT,
}
OPTIONAL: dict[str, str | range] = {
    "BusinessId": _UINT64,
    "SceneId": _UINT64,
    "MacAddress": _TEXT,
    "Imei": _TEXT,
    "NeedGetCaptchaTime": _INT64,
}


class Call(NamedTuple):
    """An authentic, well-formed call.

    Attributes:
        action: The API action.
        parameters: The decoded body.
    """

    action: Action
    parameters: dict[str, Any]


class ApiError(Exception):
    """An API failure, answered as `Response.Error`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.answer: dict[str, dict[str, str]] = {"Error": {"Code": code, "Message": message}}


def read_call(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, now: float
) -> Call:
    """Read a call.

    Args:
        headers: Headers by lower-case name.
        body: The raw body.
        credentials: The API key that may call.
        now: Unix seconds.

    Raises:
        ApiError: If the call is not authentic or not well-formed.
    """
    if len(body) > MAX_CALL:
        raise ApiError("RequestSizeLimitExceeded", f"The body is over {MAX_CALL} bytes.")
    for name in ("x-tc-action", "x-tc-version", "x-tc-timestamp", "authorization"):
        if name not in headers:
            raise ApiError("MissingParameter", f"The header {name} is missing.")
    # Before the action: an altered action is a wrong signature, not another action.
    _authenticate(headers, body, credentials, now)
    action = _ACTIONS.get(headers["x-tc-action"])
    if action is None:
        raise ApiError("InvalidAction", "The emulator does not know this action.")
    if headers["x-tc-version"] != VERSION:
        raise ApiError("NoSuchVersion", f"The version must be {VERSION}.")
    return Call(action, _read_parameters(headers, body, action))


def envelope(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document in which an answer or an error is sent."""
    # `retcode` and `retmsg` say nothing about the ticket. Tencent's own sample has them, and
    # code that reads them as the verdict accepts every ticket.
    response = {**answer, "RequestId": str(uuid.uuid4())}
    return {"Response": response, "retcode": 0, "retmsg": "success"}


def _authenticate(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, now: float
) -> None:
    """Check the time, the key and the signature."""
    timestamp = headers["x-tc-timestamp"]
    if not _TIMESTAMP.fullmatch(timestamp):
        raise ApiError("InvalidParameter", "X-TC-Timestamp must be Unix seconds.")
    if abs(now - int(timestamp)) > _MAX_SKEW:
        raise ApiError("AuthFailure.SignatureExpire", "The timestamp is over 5 minutes off.")
    if timestamp.startswith("0"):
        raise ApiError("AuthFailure.SignatureFailure", "The timestamp has a leading zero.")
    match = _AUTHORIZATION.fullmatch(headers["authorization"])
    if match is None:
        raise ApiError("AuthFailure.InvalidAuthorization", "Authorization is malformed.")
    if match["id"] != credentials.secret_id:
        raise ApiError("AuthFailure.SecretIdNotFound", "The SecretId is not found.")
    if headers.get("x-tc-token") != (credentials.token or None):
        raise ApiError("AuthFailure.TokenFailure", "The token is wrong.")
    names = match["signed"].split(";")
    if not {"content-type", "host"} <= set(names) <= headers.keys():
        raise ApiError("AuthFailure.SignatureFailure", "content-type and host must be signed.")
    signed = {name: headers[name] for name in names}
    # Values are stripped before they are hashed, so a lost non-ASCII space would go unnoticed.
    if not all(value.isascii() and value.isprintable() for value in signed.values()):
        raise ApiError("AuthFailure.SignatureFailure", "A signed header is not printable.")
    expected = authorization(
        credentials.secret_id,
        credentials.secret_key,
        headers=signed,
        body=body,
        timestamp=int(timestamp),
    )
    # The whole header except spaces, because the date must be the timestamp's too.
    actual = headers["authorization"]
    if not hmac.compare_digest(actual.replace(", ", ","), expected.replace(", ", ",")):
        raise ApiError("AuthFailure.SignatureFailure", "The signature does not match.")


def _read_parameters(headers: Mapping[str, str], body: bytes, action: Action) -> dict[str, Any]:
    if headers["content-type"].partition(";")[0].strip().lower() != "application/json":
        raise ApiError("InvalidRequest", "The Content-Type must be application/json.")
    try:
        # json.loads(bytes) would also accept UTF-16 and UTF-32.
        parameters = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise ApiError("InvalidParameter", "The body is not JSON in UTF-8.") from error
    if not isinstance(parameters, dict):
        raise ApiError("InvalidParameter", "The body is not a JSON object.")
    for name in REQUIRED:
        if name not in parameters and name not in action.without:
            raise ApiError("MissingParameter", f"The parameter {name} is missing.")
    for name, value in parameters.items():
        kind = None if name in action.without else (REQUIRED | OPTIONAL).get(name)
        if kind is None:
            raise ApiError("UnknownParameter", f"The parameter {name} is not recognized.")
        if not (type(value) is str if kind == _TEXT else type(value) is int and value in kind):
            wanted = "text" if kind == _TEXT else "an integer in its range"
            raise ApiError("InvalidParameter", f"The parameter {name} must be {wanted}.")
    return parameters
