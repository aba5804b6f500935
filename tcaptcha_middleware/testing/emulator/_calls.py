"""How strictly the emulator reads a call: signature, time, action, parameters. No I/O.

Every failure is an `ApiError` with the code that Tencent documents for it.

https://www.tencentcloud.com/document/api/215/38340
"""

from __future__ import annotations

import hmac
import json
import re
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.tencent.api import VERSION
from tcaptcha_middleware.tencent.signing import authorization

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.tencent.credentials import Credentials

SKEW = 5 * 60
"""How far a call's timestamp may be off, in seconds."""

MAX_CALL = 10 * 1024 * 1024
"""The longest body of a call, in bytes."""

_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<date>\d{4}-\d\d-\d\d)/captcha/tc3_request, ?"
    r"SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=[0-9a-f]{64}"
)
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_UINT64 = range(2**64)
_INT64 = range(-(2**63), 2**63)
_TEXT = ""
_ACTIONS = {action.name: action for action in (WEB, MINI_PROGRAM)}
# What is text, and the range of what is a number.
_REQUIRED: dict[str, str | range] = {
    "CaptchaType": _UINT64,
    "Ticket": _TEXT,
    "UserIp": _TEXT,
    "Randstr": _TEXT,
    "CaptchaAppId": _UINT64,
    "AppSecretKey": _TEXT,
}
_OPTIONAL: dict[str, str | range] = {
    "BusinessId": _UINT64,
    "SceneId": _UINT64,
    "MacAddress": _TEXT,
    "Imei": _TEXT,
    "NeedGetCaptchaTime": _INT64,
}


class Call(NamedTuple):
    """A call that is authentic and well-formed.

    Attributes:
        action: What is called.
        asked: Its parameters.
    """

    action: Action
    asked: dict[str, Any]


class ApiError(Exception):
    """An API failure, as `Response.Error` tells it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.answer: dict[str, dict[str, str]] = {"Error": {"Code": code, "Message": message}}


def read_call(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, now: float
) -> Call:
    """Return what a call asks, if it is authentic and well-formed.

    Args:
        headers: The call's headers, names in lower case.
        body: The call's bytes.
        credentials: The one API key that may call.
        now: Unix seconds.

    Raises:
        ApiError: It is not; with the code that Tencent would answer.
    """
    if len(body) > MAX_CALL:
        raise ApiError("RequestSizeLimitExceeded", f"The body is over {MAX_CALL} bytes.")
    for name in ("x-tc-action", "x-tc-version", "x-tc-timestamp", "authorization"):
        if name not in headers:
            raise ApiError("MissingParameter", f"The request has no header {name}.")
    # Before the action: an altered action is no other action, but a call that is not authentic.
    _check_signature(headers, body, credentials, now)
    action = _action(headers)
    return Call(action, _parameters(headers, body, action))


def envelope(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document that `answer`, or an `ApiError`'s, is sent in."""
    # The two siblings say nothing about the ticket. They stand in Tencent's own sample, and
    # whoever takes them for the verdict lets everyone in.
    response = {**answer, "RequestId": str(uuid.uuid4())}
    return {"Response": response, "retcode": 0, "retmsg": "success"}


def _action(headers: Mapping[str, str]) -> Action:
    action = _ACTIONS.get(headers["x-tc-action"])
    if action is None:
        raise ApiError("InvalidAction", "The action is unknown here.")
    if headers["x-tc-version"] != VERSION:
        raise ApiError("NoSuchVersion", f"The version has to be {VERSION}.")
    return action


def _check_signature(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, now: float
) -> None:
    _check_timestamp(headers["x-tc-timestamp"], now)
    given = _AUTHORIZATION.fullmatch(headers["authorization"])
    if given is None:
        raise ApiError("AuthFailure.InvalidAuthorization", "Authorization has another format.")
    if given["id"] != credentials.secret_id:
        raise ApiError("AuthFailure.SecretIdNotFound", "The SecretId is not found.")
    if headers.get("x-tc-token") != (credentials.token or None):
        raise ApiError("AuthFailure.TokenFailure", "The token is wrong.")
    _compare(given["signed"].split(";"), headers, body, credentials)


def _check_timestamp(text: str, now: float) -> None:
    if not _TIMESTAMP.fullmatch(text):
        raise ApiError("InvalidParameter", "X-TC-Timestamp has to be Unix seconds.")
    if abs(now - int(text)) > SKEW:
        raise ApiError("AuthFailure.SignatureExpire", "The timestamp is over 5 minutes off.")
    if text.startswith("0"):
        raise ApiError("AuthFailure.SignatureFailure", "The timestamp is signed without zeros.")


def _compare(
    names: list[str], headers: Mapping[str, str], body: bytes, credentials: Credentials
) -> None:
    if not {"content-type", "host"} <= set(names) <= headers.keys():
        raise ApiError("AuthFailure.SignatureFailure", "content-type and host must be signed.")
    signed = {name: headers[name] for name in names}
    # Their blanks are trimmed before they are hashed; only the plain one may get lost there.
    if not all(value.isascii() and value.isprintable() for value in signed.values()):
        raise ApiError("AuthFailure.SignatureFailure", "A signed header is not printable.")
    expected = authorization(
        credentials.secret_id,
        credentials.secret_key,
        headers=signed,
        body=body,
        timestamp=int(headers["x-tc-timestamp"]),
    )
    # The whole header but for blanks: so the date has to be the timestamp's, too.
    given = headers["authorization"]
    if not hmac.compare_digest(given.replace(", ", ","), expected.replace(", ", ",")):
        raise ApiError("AuthFailure.SignatureFailure", "The signature does not match.")


def _parameters(headers: Mapping[str, str], body: bytes, action: Action) -> dict[str, Any]:
    if headers["content-type"].partition(";")[0].strip().lower() != "application/json":
        raise ApiError("InvalidRequest", "The Content-Type has to be application/json.")
    asked = _document(body)
    for name in _REQUIRED:
        if name not in asked and name not in action.without:
            raise ApiError("MissingParameter", f"The parameter {name} is missing.")
    for name, value in asked.items():
        if name in action.without:
            raise _unknown(name)
        _check_parameter(name, value)
    return asked


def _document(body: bytes) -> dict[str, Any]:
    try:
        # Decoded here: handed bytes, json would take UTF-16 and UTF-32, too.
        asked = json.loads(body.decode())
    except (ValueError, RecursionError) as error:
        raise ApiError("InvalidParameter", "The body is no JSON in UTF-8.") from error
    if not isinstance(asked, dict):
        raise ApiError("InvalidParameter", "The body is no JSON object.")
    return asked


def _unknown(name: str) -> ApiError:
    return ApiError("UnknownParameter", f"The parameter {name} is not recognized.")


def _check_parameter(name: str, value: object) -> None:
    kind = (_REQUIRED | _OPTIONAL).get(name)
    if kind is None:
        raise _unknown(name)
    if type(value) is str if kind == _TEXT else type(value) is int and value in kind:
        return
    wanted = "text" if kind == _TEXT else "an integer in its range"
    raise ApiError("InvalidParameter", f"The parameter {name} has to be {wanted}.")
