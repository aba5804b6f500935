"""How strictly the emulator reads a call: signature, time, action, parameters. No I/O.

Every failure is an `ApiError` with the code that Tencent documents for it.

https://www.tencentcloud.com/document/api/215/38340
"""

from __future__ import annotations

import hmac
import json
import re
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.signing import authorization
from tcaptcha_middleware.tencent import ACTION, VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.credentials import Credentials

SKEW = 5 * 60
"""How far a call's timestamp may be off, in seconds."""

_AUTHORIZATION = re.compile(
    r"TC3-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<date>\d{4}-\d\d-\d\d)/captcha/tc3_request, ?"
    r"SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=[0-9a-f]{64}"
)
_REQUIRED: dict[str, type] = {
    "CaptchaType": int,
    "Ticket": str,
    "UserIp": str,
    "Randstr": str,
    "CaptchaAppId": int,
    "AppSecretKey": str,
}
_OPTIONAL: dict[str, type] = {
    "BusinessId": int,
    "SceneId": int,
    "MacAddress": str,
    "Imei": str,
    "NeedGetCaptchaTime": int,
}


class ApiError(Exception):
    """An API failure, as `Response.Error` tells it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read_call(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, now: float
) -> dict[str, Any]:
    """Return the parameters of a call that is authentic and well-formed.

    Args:
        headers: The call's headers, names in lower case.
        body: The call's bytes.
        credentials: The one API key that may call.
        now: Unix seconds.

    Raises:
        ApiError: It is not; with the code that Tencent would answer.
    """
    _check_action(headers)
    _check_signature(headers, body, credentials, now)
    return _parameters(headers, body)


def _check_action(headers: Mapping[str, str]) -> None:
    for name in ("x-tc-action", "x-tc-version", "x-tc-timestamp", "authorization"):
        if name not in headers:
            raise ApiError("MissingParameter", f"The request has no header {name}.")
    if headers["x-tc-action"] != ACTION:
        raise ApiError("InvalidAction", "The action is unknown here.")
    if headers["x-tc-version"] != VERSION:
        raise ApiError("NoSuchVersion", f"The version has to be {VERSION}.")


def _check_signature(
    headers: Mapping[str, str], body: bytes, credentials: Credentials, now: float
) -> None:
    timestamp = headers["x-tc-timestamp"]
    if not (timestamp.isascii() and timestamp.isdigit()):
        raise ApiError("InvalidParameter", "X-TC-Timestamp has to be Unix seconds.")
    if abs(now - int(timestamp)) > SKEW:
        raise ApiError("AuthFailure.SignatureExpire", "The timestamp is over 5 minutes off.")
    given = _AUTHORIZATION.fullmatch(headers["authorization"])
    if given is None:
        raise ApiError("AuthFailure.InvalidAuthorization", "Authorization has another format.")
    if given["id"] != credentials.secret_id:
        raise ApiError("AuthFailure.SecretIdNotFound", "The SecretId is not found.")
    if headers.get("x-tc-token") != credentials.token:
        raise ApiError("AuthFailure.TokenFailure", "The token is wrong.")
    _compare(given["signed"].split(";"), headers, body, credentials)


def _compare(
    signed: list[str], headers: Mapping[str, str], body: bytes, credentials: Credentials
) -> None:
    if not {"content-type", "host"} <= set(signed) or not set(signed) <= headers.keys():
        raise ApiError("AuthFailure.SignatureFailure", "content-type and host must be signed.")
    expected = authorization(
        credentials.secret_id,
        credentials.secret_key,
        headers={name: headers[name] for name in signed},
        body=body,
        timestamp=int(headers["x-tc-timestamp"]),
    )
    # The whole header but for blanks: so the date has to be the timestamp's, too.
    given = headers["authorization"]
    if not hmac.compare_digest(given.replace(", ", ","), expected.replace(", ", ",")):
        raise ApiError("AuthFailure.SignatureFailure", "The signature does not match.")


def _parameters(headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if headers["content-type"].partition(";")[0].strip().lower() != "application/json":
        raise ApiError("InvalidRequest", "The Content-Type has to be application/json.")
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError("InvalidParameter", "The body is no JSON.") from error
    if not isinstance(asked, dict):
        raise ApiError("InvalidParameter", "The body is no JSON object.")
    for name in _REQUIRED.keys() - asked.keys():
        raise ApiError("MissingParameter", f"The parameter {name} is missing.")
    for name, value in asked.items():
        _check_parameter(name, value)
    return asked


def _check_parameter(name: str, value: object) -> None:
    kind = (_REQUIRED | _OPTIONAL).get(name)
    if kind is None:
        raise ApiError("UnknownParameter", f"The parameter {name} is not recognized.")
    if type(value) is not kind:
        raise ApiError("InvalidParameter", f"The parameter {name} has to be {kind.__name__}.")
