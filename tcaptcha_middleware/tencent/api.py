"""Tencent's wire: the call as bytes, and the answer as a `Verdict`.

No I/O; the time is an argument. What the codes mean stands in `codes`.

https://www.tencentcloud.com/document/product/1159/50367
https://cloud.tencent.com/document/product/1110/36926
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

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
MAX_ANSWER = 32 * 1024
"""The longest answer that is read, in bytes; real ones are below 1 KiB."""


_ORIGIN = re.compile(
    r"(?P<origin>https?://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)/*",
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
        ConfigurationError: No such site, or the text is no origin.
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
    return given["origin"].lower()


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


def read_answer(status: int, body: bytes) -> Verdict:
    """Read an answer strictly: what is not exactly as documented is no verdict.

    Raises:
        OutageError: HTTP 5xx, or `InternalError`.
        ThrottledError: HTTP 429, or `RequestLimitExceeded`.
        MisconfiguredError: Credentials, account or parameters are wrong.
        VerifierError: Nobody can tell what this is.
    """
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise OutageError(f"Tencent answered HTTP {status}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        raise ThrottledError("Tencent answered HTTP 429")
    if status != HTTPStatus.OK:
        raise VerifierError(
            f"Tencent answered HTTP {status}; is something else at its address?"
        )
    try:
        return read_document(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise VerifierError("Tencent's answer is no JSON") from error


def read_document(document: object) -> Verdict:
    """Same as `read_answer`, for JSON that is parsed already."""
    answer = document.get("Response") if isinstance(document, dict) else None
    if not isinstance(answer, dict):
        raise VerifierError("Tencent's answer has no Response")
    if "Error" in answer:
        raise api_error(answer["Error"], _text(answer, "RequestId"))
    return Verdict(
        code=_integer(answer, "CaptchaCode"),
        evil_level=_optional(answer, "EvilLevel") or 0,
        score=_optional(answer, "Score"),
        message=_text(answer, "CaptchaMsg"),
        request_id=_text(answer, "RequestId"),
        fetched_at=_optional(answer, "GetCaptchaTime") or 0,
        submitted_at=_optional(answer, "SubmitCaptchaTime") or 0,
    )


def _integer(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name)
    # Not isinstance: true is an int to Python, and no code to Tencent.
    if type(value) is not int:
        raise VerifierError(
            f"Tencent's answer has no integer {name}", request_id=_text(answer, "RequestId")
        )
    return value


def _optional(answer: dict[str, Any], name: str) -> int | None:
    return None if answer.get(name) is None else _integer(answer, name)


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    # Logged by some: a line break in it would look like a line of the log.
    return value if isinstance(value, str) and value.isprintable() else ""
