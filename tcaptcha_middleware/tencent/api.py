"""Tencent's API: the call as bytes, and the answer as a `Verdict`.

No I/O; the time is an argument. `codes` has the meanings of the codes.

https://www.tencentcloud.com/document/product/1159/50367
https://cloud.tencent.com/document/product/1110/36926
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tcaptcha_middleware.errors import (
    ConfigurationError,
    OutageError,
    ThrottledError,
    VerifierError,
)
from tcaptcha_middleware.models import Verdict
from tcaptcha_middleware.tencent.codes import api_error
from tcaptcha_middleware.tencent.signing import authorization

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Submission
    from tcaptcha_middleware.tencent.actions import Action
    from tcaptcha_middleware.tencent.credentials import Captcha, Key

VERSION = "2019-07-22"
CAPTCHA_TYPE = 9
CONTENT_TYPE = "application/json; charset=utf-8"

_ORIGIN = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9._-]+|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?)/*",
    re.ASCII | re.IGNORECASE,
)
_MAX_PORT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Site:
    """One of Tencent's two separate captcha services.

    Attributes:
        endpoint: The API's origin.
        script: The client script, which pages have to load from there.
    """

    endpoint: str
    script: str


SITES = {
    "cn": Site(
        "https://captcha.tencentcloudapi.com", "https://turing.captcha.qcloud.com/TJCaptcha.js"
    ),
    "intl": Site(
        "https://captcha.intl.tencentcloudapi.com",
        "https://ca.turing.captcha.qcloud.com/TJNCaptcha-global.js",
    ),
}


def endpoint(site: str, origin: str | None, action: Action) -> str:
    """Return the origin that calls go to.

    Args:
        site: `"cn"` or `"intl"`.
        origin: A whole origin instead, such as `"http://127.0.0.1:9000"`.
        action: What is called there.

    Raises:
        ConfigurationError: If the site is unknown, or `origin` is not an origin, or secrets
            would be sent there unencrypted.
    """
    if site not in action.sites:
        known = " or ".join(f'"{name}"' for name in action.sites)
        raise ConfigurationError(f"site is {site!r}: for {action.name} it is {known}")
    if origin is None:
        return SITES[site].endpoint
    given = _ORIGIN.fullmatch(str(origin))
    if given is None or int(given["port"] or 0) > _MAX_PORT:
        raise ConfigurationError(
            f'endpoint is {origin!r}: write a whole origin, such as "http://127.0.0.1:9000"'
        )
    if given["scheme"].lower() == "http" and not is_loopback(given["host"].lower()):
        raise ConfigurationError(
            f"endpoint is {origin!r}: calls contain AppSecretKey, so http is allowed to this "
            "machine only; use https"
        )
    return given["origin"].lower()


def is_tencents(origin: str) -> bool:
    """Return whether `origin` is one of Tencent Cloud's."""
    return f"{urlsplit(origin).hostname}".endswith(".tencentcloudapi.com")


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine, as a name or an address in a URL."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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


def call(captcha: Captcha, ticket: Submission, action: Action) -> bytes:
    """Return the body of the call, as compact ASCII JSON."""
    found = parameters(captcha, ticket, action)
    return json.dumps(found, separators=(",", ":")).encode("ascii")


def headers(
    key: Key,
    *,
    host: str,
    body: bytes,
    timestamp: int,
    action: Action,
) -> dict[str, str]:
    """Return the headers of the call, signed.

    Args:
        key: SecretId, SecretKey, and the token of a temporary key or None.
        host: The `Host` that is sent; with the port, where that is not the scheme's own.
        body: The very bytes that are sent.
        timestamp: Unix seconds.
        action: What is called.
    """
    secret_id, secret_key, token = key
    signed = {"Content-Type": CONTENT_TYPE, "Host": host, "X-TC-Action": action.name}
    proof = authorization(secret_id, secret_key, headers=signed, body=body, timestamp=timestamp)
    sent = signed | {
        "Authorization": proof,
        "X-TC-Version": VERSION,
        "X-TC-Timestamp": str(timestamp),
        # An answer is small; asking for it uncompressed leaves no room for a bomb.
        "Accept-Encoding": "identity",
    }
    return sent | {"X-TC-Token": token} if token else sent


def read_answer(status: int, body: bytes, *, resent: bool = False) -> Verdict:
    """Read an answer strictly: what is not as documented is not a verdict.

    Args:
        status: The HTTP status.
        body: The body.
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
        return read_document(json.loads(body), resent=resent)
    except (ValueError, RecursionError) as error:
        raise VerifierError("Tencent's answer is not JSON", answered=False) from error


def read_document(document: object, *, resent: bool = False) -> Verdict:
    """Same as `read_answer`, for JSON that is parsed already."""
    answer = document.get("Response") if isinstance(document, dict) else None
    if not isinstance(answer, dict):
        raise VerifierError("Tencent's answer lacks a Response", answered=False)
    if "Error" in answer:
        raise api_error(answer["Error"], _text(answer, "RequestId"))
    return Verdict(
        code=_decisive(answer, "CaptchaCode"),
        evil_level=0 if answer.get("EvilLevel") is None else _decisive(answer, "EvilLevel"),
        score=_optional(answer, "Score"),
        message=_text(answer, "CaptchaMsg"),
        request_id=_text(answer, "RequestId"),
        fetched_at=_optional(answer, "GetCaptchaTime") or 0,
        submitted_at=_optional(answer, "SubmitCaptchaTime") or 0,
        resent=resent,
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
