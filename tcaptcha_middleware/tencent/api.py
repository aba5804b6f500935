"""Tencent's API: the call as signed bytes, and the answer as a `Verdict`.

No I/O; the time is an argument. `actions` has the meanings of the codes.

https://www.tencentcloud.com/document/product/1159/50367
https://cloud.tencent.com/document/product/1110/36926
https://www.tencentcloud.com/document/api/215/38340 (TC3-HMAC-SHA256)
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from functools import lru_cache
from http import HTTPStatus
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import (
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.models import MALICIOUS_LEVEL, PASSED_CODE, Submission, Verdict
from tcaptcha_middleware.tencent.actions import api_error, outcome_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.models import Codes
    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.tencent.credentials import Captcha, Key

VERSION = "2019-07-22"
CAPTCHA_TYPE = 9
CONTENT_TYPE = "application/json; charset=utf-8"
ALGORITHM = "TC3-HMAC-SHA256"
SERVICE = "captcha"
_DAY = 24 * 60 * 60


def parameters(captcha: Captcha, ticket: Submission, action: Action) -> dict[str, str | int]:
    """Return the call's parameters; Tencent refuses any other (`UnknownParameter`)."""
    every: dict[str, str | int] = {
        "CaptchaType": CAPTCHA_TYPE,
        "Ticket": ticket.ticket,
        "UserIp": ticket.user_ip,
        "Randstr": ticket.randstr,
        "CaptchaAppId": captcha.app_id,
        "AppSecretKey": captcha.app_secret_key,
        "NeedGetCaptchaTime": 1,
    }
    return {name: value for name, value in every.items() if name not in action.without}


class CallWriter:
    """Writes the calls of one captcha. What is the same in each is prepared once.

    Args:
        captcha: The captcha.
        action: The action.
        host: The `Host` that is sent; with the port, unless it is the scheme's own.

    Attributes:
        constant_headers: The headers that all calls share.
    """

    def __init__(self, captcha: Captcha, action: Action, host: str) -> None:
        holes = parameters(captcha, Submission("%", "%", "%"), action)
        # The ticket's values come first; "%" may also be one of the captcha's.
        count = sum(name in holes for name in ("Ticket", "UserIp", "Randstr"))
        text = json.dumps(holes, separators=(",", ":"))
        self._body, *self._parts = text.split('"%"', count)
        self.constant_headers: dict[str, str] = {
            "Content-Type": CONTENT_TYPE,
            "Host": host,
            "X-TC-Action": action.name,
            "X-TC-Version": VERSION,
            # An answer is small; asking for it uncompressed leaves no room for a bomb.
            "Accept-Encoding": "identity",
        }
        names = "Content-Type", "Host", "X-TC-Action"
        signed = {name: self.constant_headers[name] for name in names}
        self._canonical = canonical_request(signed, b"")[: -len(hashlib.sha256().hexdigest())]
        self._signed_names = ";".join(sorted(map(str.lower, signed)))

    def body(self, ticket: Submission) -> bytes:
        """Return the body of a call, as compact ASCII JSON."""
        text = self._body
        # As many as the action has; a mini-program's ticket needs no randstr.
        values = ticket.ticket, ticket.user_ip, ticket.randstr
        for value, part in zip(values, self._parts, strict=False):
            text += encode_basestring_ascii(value) + part  # what json.dumps calls for text
        return text.encode("ascii")

    def headers(self, key: Key, body: bytes, timestamp: int) -> dict[str, str]:
        """Return the signature of a call, and the other headers that differ between calls.

        Args:
            key: SecretId, SecretKey, and the token of a temporary key or None.
            body: The very bytes that are sent.
            timestamp: Unix seconds.
        """
        secret_id, secret_key, token = key
        request = self._canonical + hashlib.sha256(body).hexdigest().encode()
        names = self._signed_names
        headers = {
            "Authorization": _signed(secret_id, secret_key, names, request, timestamp),
            "X-TC-Timestamp": str(timestamp),
        }
        if token:
            headers["X-TC-Token"] = token
        return headers


def authorization(  # noqa: PLR0913  these six are what the signature is made of
    secret_id: str,
    secret_key: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timestamp: int,
    service: str = SERVICE,
) -> str:
    """Return the `Authorization` header of a POST to `/`.

    Args:
        secret_id: The API key's public half.
        secret_key: The API key's secret half.
        headers: The headers to sign, exactly as they are sent; `content-type` and `host` at
            the least.
        body: The bytes that are sent.
        timestamp: `X-TC-Timestamp`, in Unix seconds; Tencent allows five minutes of skew.
        service: The API's name.
    """
    names = ";".join(sorted(map(str.lower, headers)))
    request = canonical_request(headers, body)
    return _signed(secret_id, secret_key, names, request, timestamp, service=service)


def _signed(  # noqa: PLR0913  as above
    secret_id: str,
    secret_key: str,
    names: str,
    request: bytes,
    timestamp: int,
    *,
    service: str = SERVICE,
) -> str:
    scope, signing_key = scope_and_key(secret_key, timestamp // _DAY, service)
    digest = hashlib.sha256(request).hexdigest()
    text = f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}".encode()
    signature = hmac.digest(signing_key, text, "sha256").hex()
    return (
        f"{ALGORITHM} Credential={secret_id}/{scope}, SignedHeaders={names}, "
        f"Signature={signature}"
    )


def canonical_request(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the canonical form of a POST to `/` without a query."""
    # Sorted by name. Whole lines sort otherwise: a colon comes after a dash.
    pairs = sorted((name.lower(), value.strip().lower()) for name, value in headers.items())
    lines = "".join(f"{name}:{value}\n" for name, value in pairs)
    signed = ";".join(name for name, _ in pairs)
    digest = hashlib.sha256(body).hexdigest()
    return f"POST\n/\n\n{lines}\n{signed}\n{digest}".encode()


@lru_cache(maxsize=16)
def scope_and_key(secret_key: str, day: int, service: str) -> tuple[str, bytes]:
    """Return the scope of a day's signatures and its key.

    Kept, because the key costs three hashes and holds for a whole day.

    Args:
        secret_key: The API key's secret half.
        day: The day since 1970, in UTC; a local date is wrong for eight hours of every day in
            China.
        service: The API's name.
    """
    date = time.strftime("%Y-%m-%d", time.gmtime(day * _DAY))
    key = f"TC3{secret_key}".encode()
    for text in (date, service, "tc3_request"):
        key = hmac.digest(key, text.encode(), "sha256")
    return f"{date}/{service}/tc3_request", key


def read_answer(status: int, body: bytes, codes: Codes, *, resent: bool = False) -> Verdict:
    """Read an answer strictly: what is not as documented is not a verdict.

    Args:
        status: The HTTP status.
        body: The body.
        codes: The codes of the action that was called.
        resent: Whether the call was sent twice.

    Raises:
        OutageError: If the status is 5xx, or the API reports `InternalError`.
        ThrottledError: If the status is 429, or the API reports `RequestLimitExceeded`.
        MisconfiguredError: If credentials, account or parameters are wrong.
        VerifierError: If this is not an answer of Tencent's API.
    """
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise OutageError(f"Tencent answered HTTP {status}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ThrottledError("Tencent answered HTTP 429")
    if status != HTTPStatus.OK:
        message = f"Tencent answered HTTP {status}; is something else at its address?"
        raise VerifierError(message, answered=False)
    try:
        return read_document(json.loads(body), codes, resent=resent)
    except (ValueError, RecursionError) as error:
        raise VerifierError("Tencent's answer is not JSON", answered=False) from error


def read_document(document: object, codes: Codes, *, resent: bool = False) -> Verdict:
    """Same as `read_answer`, for JSON that is parsed already."""
    answer = document.get("Response") if isinstance(document, dict) else None
    if not isinstance(answer, dict):
        raise VerifierError("Tencent's answer lacks a Response", answered=False)
    if "Error" in answer:
        raise api_error(answer["Error"], _text(answer, "RequestId"))
    code = _decisive(answer, "CaptchaCode")
    evil_level = 0 if answer.get("EvilLevel") is None else _decisive(answer, "EvilLevel")
    passed = code == PASSED_CODE and evil_level < MALICIOUS_LEVEL
    return Verdict(
        code,
        evil_level,
        _optional(answer, "Score"),
        _text(answer, "CaptchaMsg"),
        _text(answer, "RequestId"),
        _optional(answer, "GetCaptchaTime") or 0,
        _optional(answer, "SubmitCaptchaTime") or 0,
        resent,
        "passed" if passed else outcome_of(code, codes, resent=resent),
    )


def _decisive(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name)
    # Not isinstance: true is an int to Python, and not a code to Tencent.
    if type(value) is not int:
        request_id = _text(answer, "RequestId")
        message = f"Tencent's answer has no integer {name}"
        raise VerifierError(message, request_id=request_id, answered=False)
    return value


def _optional(answer: dict[str, Any], name: str) -> int | None:
    """Return a field that decides nothing; None if it is not an integer."""
    value = answer.get(name)
    return value if type(value) is int else None


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    # Logged by some: a line break in it would look like a line of the log.
    return value if isinstance(value, str) and value.isprintable() else ""
