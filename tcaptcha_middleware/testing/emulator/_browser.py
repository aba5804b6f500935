"""The emulator's browser side: the client script, challenges, and the check of `aidEncrypted`.

`TencentCaptcha.js` draws the challenges. The check is written from Tencent's page only and
shares no code with the encryption, so each verifies the other.

https://cloud.tencent.com/document/product/1110/128489
"""

from __future__ import annotations

import re
import secrets
from base64 import b64decode
from importlib.resources import files
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.testing.emulator._control import (
    Steps,
    validate_challenge,
    validate_load,
    validate_request,
)
from tcaptcha_middleware.testing.emulator._http import Response, json_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tcaptcha_middleware.tencent.credentials import Captcha

SCRIPTS = ("/TJCaptcha.js", "/TCaptcha.js", "/TJNCaptcha-global.js", "/TCaptcha-global.js")
"""The paths of Tencent's scripts: two of the domestic site, then two international ones."""

_THROWS_NOWHERE = 'const THROWS_IN = "";'

# Public like Tencent's, also for cross-origin isolated pages. Not cached, because every load
# takes a step.
_PUBLIC = (
    ("access-control-allow-origin", "*"),
    ("cross-origin-resource-policy", "cross-origin"),
    ("cache-control", "no-store"),
)

_REMEMBERED = 10_000

# Tencent's own script reports this if it cannot get its configuration.
_NO_CONFIGURATION = 1006

# https://cloud.tencent.com/document/product/1110/72310; the texts of other codes are unknown.
_MESSAGES = {1001: "jsload_error", _NO_CONFIGURATION: "get_captcha_config_request_error"}

_MAX_TTL = 86400
_MAX_AAD = 128
_KEY = 32
_BLOCK = 16
_GCM_IV = 12
_PLAINTEXT = re.compile(rb"([0-9]{1,20})&([0-9]{1,12})&([0-9]{1,6})")


class ClientScript:
    """The substitute for Tencent's script.

    Attributes:
        steps: What happens to the next loads; see `TencentEmulator.load`.
    """

    def __init__(self) -> None:
        package = files("tcaptcha_middleware.testing.emulator")
        self._source = package.joinpath("TencentCaptcha.js").read_text(encoding="utf-8")
        self.steps: Steps = Steps(validate_load)

    def answer(self, method: str) -> Response:
        """Answer a request for one of `SCRIPTS`; only a GET counts as a load."""
        if method not in ("GET", "HEAD"):
            return json_response(405, {"error": "use GET"})._replace(allow="GET, HEAD")
        step = self.steps.take() if method == "GET" else {}
        source = self._source
        if "broken" in step:
            source = source[: len(source) // 2]
        elif "throw" in step:
            source = source.replace(_THROWS_NOWHERE, f'const THROWS_IN = "{step["throw"]}";')
        response = Response(200, source.encode(), "text/javascript; charset=utf-8")
        if "status" in step:
            response = Response(step["status"], b"<html>", "text/html")
        return response._replace(latency=step.get("latency", 0), headers=_PUBLIC)


class Challenges:
    """The challenges that pages request. Not thread-safe.

    Args:
        captchas: The captchas that have challenges.
        mint: Makes a ticket from its properties.
        check_app_id: If a challenge needs a valid `aidEncrypted`.
        one_time: If each `aidEncrypted` is accepted once only.

    Attributes:
        steps: What happens to the next challenges; see `TencentEmulator.challenge`.
        requests: The last 10,000 requests, in order.
    """

    def __init__(
        self,
        captchas: Iterable[Captcha],
        mint: Callable[[object], dict[str, str]],
        *,
        check_app_id: bool,
        one_time: bool,
    ) -> None:
        self._checks = {
            str(captcha.app_id): AidEncryptedCheck(captcha, once=one_time)
            if check_app_id
            else None
            for captcha in captchas
        }
        self._mint = mint
        self.steps: Steps = Steps(validate_challenge)
        self.requests: list[dict[str, Any]] = []

    def answer(self, value: object, now: float) -> Response:
        """Answer a page's request for a challenge.

        Args:
            value: The decoded request.
            now: Unix seconds.

        Raises:
            TypeError: If `value` is not a dict, or has an unknown key.
            ValueError: If a key is missing, or a value is not valid.
        """
        request = validate_request(value)
        self.requests.append(request)
        del self.requests[:-_REMEMBERED]
        # Tencent does not document how another captcha's app id or a bad aidEncrypted fails.
        # Here both fail like a missing configuration, which every page must expect.
        app_id = request["appId"]
        try:
            if app_id not in self._checks:
                known = " or ".join(self._checks)
                raise ValueError(f"the emulator's captcha is {known}, not {app_id}")
            check = self._checks[app_id]
            if check is not None:
                check.check(request["options"], now)
        except ValueError as error:
            return json_response(200, _failure(_NO_CONFIGURATION, str(error)))
        step = self.steps.take()
        end = next((end for end in ("close", "hang", "skip") if end in step), "solve")
        outcome: dict[str, Any] = {"outcome": end}
        if "error" in step:
            outcome = _failure(step["error"], "as scripted")
        elif end in ("skip", "solve"):
            # Minted before it is solved, so one response has everything that the page needs.
            pair = self._mint({"app_id": int(app_id)} | step.get("ticket", {}))
            outcome |= {"sid": str(secrets.randbelow(10**19)), **pair}
        return json_response(200, outcome)._replace(latency=step.get("latency", 0))


def _failure(code: int, reason: str) -> dict[str, Any]:
    message = _MESSAGES.get(code, "error")
    return {"outcome": "error", "errorCode": code, "errorMessage": f"{message} ({reason})"}


class AidEncryptedCheck:
    """Validates `aidEncrypted`.

    Args:
        captcha: The captcha that values must belong to; its AppSecretKey encrypts them.
        once: If each value is accepted once only (the console's one-time option).

    Raises:
        ModuleNotFoundError: If cryptography is not installed; the extra `aid` installs it.
    """

    def __init__(self, captcha: Captcha, *, once: bool) -> None:
        import cryptography  # noqa: F401  fail here and not at the first challenge

        self._app_id = captcha.app_id
        # A longer key is cut: Tencent's page does not say what happens to it.
        self._key = bytes(islice(cycle(captcha.app_secret_key.encode()), _KEY))
        self._once = once
        self._seen: dict[bytes, float] = {}

    def check(self, options: Mapping[str, Any], now: float) -> None:
        """Check the options of a challenge.

        Args:
            options: With `aidEncrypted`, and perhaps `aidEncryptedType` and `aidEncryptedAad`.
            now: Unix seconds.

        Raises:
            ValueError: If the value is missing or not valid.
        """
        text = str(options.get("aidEncrypted") or "")
        if not text:
            raise ValueError("this captcha requires aidEncrypted")
        sealed = _decode("aidEncrypted", text)
        kind = str(options.get("aidEncryptedType") or "cbc")
        aad = str(options.get("aidEncryptedAad") or "")
        iv, plaintext = _decrypt(self._key, kind, sealed, aad)
        match = _PLAINTEXT.fullmatch(plaintext)
        if match is None:
            raise ValueError("aidEncrypted must contain CaptchaAppId&timestamp&ttl: wrong key?")
        app_id, made_at, ttl = map(int, match.groups())
        if app_id != self._app_id:
            raise ValueError(f"aidEncrypted is for captcha {app_id}, not for {self._app_id}")
        if not 0 < ttl <= _MAX_TTL:
            raise ValueError(f"the ttl of aidEncrypted must be 1 to {_MAX_TTL}, got {ttl}")
        if made_at > now:
            raise ValueError("the timestamp of aidEncrypted is in the future")
        if made_at + ttl < now:
            raise ValueError("aidEncrypted has expired")
        if self._once:
            self._seen = {seen: end for seen, end in self._seen.items() if end >= now}
            if iv in self._seen:
                raise ValueError("aidEncrypted was used before; this captcha accepts it once")
            self._seen[iv] = made_at + ttl


def _decode(name: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{name} is not standard base64 with padding") from error


def _decrypt(key: bytes, kind: str, sealed: bytes, aad: str) -> tuple[bytes, bytes]:
    """Return the IV and the plaintext."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC
    from cryptography.hazmat.primitives.padding import PKCS7

    if kind == "gcm":
        if len(aad) > _MAX_AAD:
            raise ValueError(f"aidEncryptedAad is over {_MAX_AAD} characters")
        iv, data = sealed[:_GCM_IV], _decode("aidEncryptedAad", aad) or None
        try:
            return iv, AESGCM(key).decrypt(iv, sealed[_GCM_IV:], data)
        except (InvalidTag, ValueError) as error:
            raise ValueError("aidEncrypted has another key or AAD, or was altered") from error
    if kind != "cbc":
        raise ValueError(f"aidEncryptedType must be 'cbc' or 'gcm', got {kind!r}")
    if len(sealed) % _BLOCK or len(sealed) < 2 * _BLOCK:
        raise ValueError("aidEncrypted is not an IV and blocks of AES-CBC")
    iv = sealed[:_BLOCK]
    cipher = Cipher(AES(key), CBC(iv)).decryptor()
    padded = cipher.update(sealed[_BLOCK:]) + cipher.finalize()
    padding = PKCS7(8 * _BLOCK).unpadder()
    try:
        return iv, padding.update(padded) + padding.finalize()
    except ValueError as error:
        raise ValueError("aidEncrypted has another key, or was altered") from error
