"""The emulator's browser side: its script, its challenges, and the check of `aidEncrypted`.

What draws challenges in the browser is `TencentCaptcha.js`. The check is written from Tencent's
page alone and apart from what encrypts, so each judges the other.

https://cloud.tencent.com/document/product/1110/128489
"""

from __future__ import annotations

import re
import secrets
from base64 import b64decode
from collections import deque
from importlib.resources import files
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from tcaptcha_middleware.testing.emulator._control import (
    check_challenge,
    check_load,
    check_said,
)
from tcaptcha_middleware.testing.emulator._http import Answer, in_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tcaptcha_middleware.tencent.credentials import Captcha

PATHS = ("/TJCaptcha.js", "/TCaptcha.js", "/TJNCaptcha-global.js", "/TCaptcha-global.js")
"""Where Tencent has its scripts: the two of the domestic site, then the international ones."""

_THROWS_NOWHERE = 'const THROWS_IN = "";'

# Public, as Tencent's is, also to pages that isolate themselves; and fetched for each page,
# so that each step counts.
_PUBLIC = (
    ("access-control-allow-origin", "*"),
    ("cross-origin-resource-policy", "cross-origin"),
    ("cache-control", "no-store"),
)

_REMEMBERED = 10_000

# What Tencent's own script makes of a configuration that it does not get.
_NO_CONFIGURATION = 1006

# https://cloud.tencent.com/document/product/1110/72310; of the others the text is not known.
_MESSAGES = {1001: "jsload_error", _NO_CONFIGURATION: "get_captcha_config_request_error"}

_LONGEST_TTL = 86400
_LONGEST_AAD = 128
_KEY = 32
_BLOCK = 16
_GCM_IV = 12
_PLAINTEXT = re.compile(rb"([0-9]{1,20})&([0-9]{1,12})&([0-9]{1,6})")


class Pages:
    """Serve pages the stand-in for Tencent's script, and the challenges that it asks for.

    Args:
        checks: By CaptchaAppId, what checks `aidEncrypted`; None where the captcha does not
            insist on it.
        mint: Makes a ticket of what is said of it.
        clock: Tells the time in Unix seconds.

    Attributes:
        challenges: What the last 10,000 pages said that asked for a challenge, in order:
            `script` (its file), `appId` and `options`.
    """

    def __init__(
        self,
        *,
        checks: Mapping[int, AidCheck | None],
        mint: Callable[..., dict[str, str]],
        clock: Callable[[], float],
    ) -> None:
        self._challenges = Challenges(checks, mint)
        self._script = Script()
        self._clock = clock
        self.challenges: list[dict[str, Any]] = self._challenges.said

    def challenge(self, *steps: dict[str, Any]) -> None:
        """Say how the next challenges go in browsers; after the last, visitors may solve them.

        Args:
            steps: One of `ticket` (a dict of what `mint` takes, for the ticket that solving it
                gives), `close` (true: as if the visitor closed it), `error` (1001 to 1013: it
                fails, with a disaster ticket) and `hang` (true: it never ends); and any of
                `skip` (true: it is solved without being shown) and `latency` (seconds before
                it goes on).

        Raises:
            TypeError: No dict, or another word than these.
            ValueError: A value that does not fit its word, or two ends of one challenge.
        """
        self._challenges.script(*steps)

    def load(self, *steps: dict[str, Any]) -> None:
        """Say how the next loads of the stand-in's script go; after the last, they succeed.

        Args:
            steps: One of `status` (an HTTP status, with an HTML body), `broken` (true: half a
                script) and `throw` ("constructor" or "show": the first call of it throws); and
                `latency` (seconds before the answer).

        Raises:
            TypeError: No dict, or another word than these.
            ValueError: A value that does not fit its word, or two failures of one load.
        """
        self._script.script(*steps)

    def _answer_load(self, method: str) -> Answer:
        return self._script.answer(method)

    def _answer_challenge(self, told: object) -> Answer:
        goes, latency = self._challenges.answer(told, self._clock())
        return in_json(200, goes)._replace(latency=latency)


class Script:
    """The script, and how the next loads of it go."""

    def __init__(self) -> None:
        here = files("tcaptcha_middleware.testing.emulator")
        self._source = here.joinpath("TencentCaptcha.js").read_text(encoding="utf-8")
        self._steps: deque[dict[str, Any]] = deque()

    def script(self, *steps: dict[str, Any]) -> None:
        """Say how the next loads go; see `TencentEmulator.load`."""
        self._steps.extend([check_load(step) for step in steps])

    def answer(self, method: str) -> Answer:
        """Return the answer to a request for one of `PATHS`; only a GET is a load."""
        if method not in ("GET", "HEAD"):
            return in_json(405, {"error": "GET it"})._replace(allow="GET, HEAD")
        step = self._steps.popleft() if method == "GET" and self._steps else {}
        return self._loaded(step)._replace(latency=step.get("latency", 0), headers=_PUBLIC)

    def _loaded(self, step: dict[str, Any]) -> Answer:
        if "status" in step:
            return Answer(step["status"], b"<html>", "text/html")
        source = self._source
        if "broken" in step:
            source = source[: len(source) // 2]
        elif "throw" in step:
            source = source.replace(_THROWS_NOWHERE, f'const THROWS_IN = "{step["throw"]}";')
        return Answer(200, source.encode(), "text/javascript; charset=utf-8")


class Challenges:
    """Every challenge that is asked for, and the steps to come. Not for two threads at once.

    Args:
        checks: By CaptchaAppId, what checks `aidEncrypted`; None where the captcha does not
            insist on it.
        mint: Makes a ticket of what is said of it.

    Attributes:
        said: What the last 10,000 pages said, in order.
    """

    def __init__(
        self, checks: Mapping[int, AidCheck | None], mint: Callable[..., dict[str, str]]
    ) -> None:
        self._checks = {str(app_id): check for app_id, check in checks.items()}
        self._mint = mint
        self._steps: deque[dict[str, Any]] = deque()
        self.said: list[dict[str, Any]] = []

    def script(self, *steps: dict[str, Any]) -> None:
        """Say how the next ones go; see `TencentEmulator.challenge`."""
        self._steps.extend([check_challenge(step) for step in steps])

    def answer(self, told: object, now: float) -> tuple[dict[str, Any], float]:
        """Return how the challenge goes that a page asks for, and how long that takes.

        Args:
            told: What the page said.
            now: Unix seconds.

        Raises:
            TypeError: No dict, or another word than those of `TencentCaptcha.js`.
            ValueError: A value that does not fit its word.
        """
        said = check_said(told)
        self.said.append(said)
        del self.said[:-_REMEMBERED]
        try:
            self._admit(said, now)
        except ValueError as error:
            return _failed(_NO_CONFIGURATION, str(error)), 0
        step = self._steps.popleft() if self._steps else {}
        return self._go(step, int(said["appId"])), step.get("latency", 0)

    def _admit(self, said: dict[str, Any], now: float) -> None:
        # How Tencent turns away another's app id or a bad aidEncrypted is not known: here it
        # is the failure that a page has to expect before anything is drawn.
        if said["appId"] not in self._checks:
            known = " or ".join(self._checks)
            raise ValueError(f"the emulator's captcha is {known}, not {said['appId']}")
        check = self._checks[said["appId"]]
        if check is not None:
            check.check(_aid(said["options"]), now)

    def _go(self, step: dict[str, Any], app_id: int) -> dict[str, Any]:
        if "error" in step:
            return _failed(step["error"], "as scripted")
        if "close" in step or "hang" in step:
            return {"outcome": "close" if "close" in step else "hang"}
        # Minted now and not when it is solved: one answer holds all that the page needs.
        pair = self._mint(**{"app_id": app_id} | step.get("ticket", {}))
        sid = str(secrets.randbelow(10**19))
        return {"outcome": "skip" if "skip" in step else "solve", "sid": sid, **pair}


def _aid(options: dict[str, Any]) -> Aid:
    return Aid(
        text=str(options.get("aidEncrypted") or ""),
        kind=str(options.get("aidEncryptedType") or "cbc"),
        aad=str(options.get("aidEncryptedAad") or ""),
    )


def _failed(code: int, reason: str) -> dict[str, Any]:
    message = _MESSAGES.get(code, "error")
    return {"outcome": "error", "errorCode": code, "errorMessage": f"{message} ({reason})"}


class Aid(NamedTuple):
    """What a page gave with its challenge.

    Attributes:
        text: `aidEncrypted`.
        kind: `aidEncryptedType`; `cbc` where the page gave none.
        aad: `aidEncryptedAad`; empty where the page gave none.
    """

    text: str
    kind: str
    aad: str


class AidCheck:
    """Tells good values from bad ones, and with `once` also those that came before.

    Args:
        captcha: What they have to be for, and encrypted with its AppSecretKey.
        once: Whether each may be used a single time (the console's one-time option).

    Raises:
        ModuleNotFoundError: cryptography is not installed; it comes with the extra `aid`.
    """

    def __init__(self, captcha: Captcha, *, once: bool) -> None:
        import cryptography  # noqa: F401  told now, and not at the first challenge

        self._app_id = captcha.app_id
        # A longer key is cut: Tencent's page does not say.
        self._key = bytes(islice(cycle(captcha.app_secret_key.encode()), _KEY))
        self._once = once
        self._seen: dict[bytes, float] = {}

    def check(self, aid: Aid, now: float) -> None:
        """Pass over a good value.

        Args:
            aid: What the page gave.
            now: Unix seconds.

        Raises:
            ValueError: It is not good; with the reason.
        """
        if not aid.text:
            raise ValueError("this captcha insists on aidEncrypted, and there is none")
        iv, plaintext = self._open(aid)
        ends_at = self._read(plaintext, now)
        if self._once:
            self._use_up(iv, ends_at, now)

    def _open(self, aid: Aid) -> tuple[bytes, bytes]:
        sealed = _decoded("aidEncrypted", aid.text)
        if aid.kind == "cbc":
            return sealed[:_BLOCK], _open_cbc(self._key, sealed)
        if aid.kind == "gcm":
            return sealed[:_GCM_IV], _open_gcm(self._key, sealed, _aad(aid.aad))
        raise ValueError(f"aidEncryptedType is {aid.kind!r}: it has to be 'cbc' or 'gcm'")

    def _read(self, plaintext: bytes, now: float) -> int:
        found = _PLAINTEXT.fullmatch(plaintext)
        if found is None:
            raise ValueError("aidEncrypted holds no CaptchaAppId&timestamp&ttl: another key?")
        app_id, made_at, ttl = map(int, found.groups())
        if app_id != self._app_id:
            raise ValueError(f"aidEncrypted is for captcha {app_id}, not for {self._app_id}")
        if not 0 < ttl <= _LONGEST_TTL:
            raise ValueError(f"aidEncrypted's ttl is {ttl}: it has to be 1 to {_LONGEST_TTL}")
        if made_at > now:
            raise ValueError("aidEncrypted's timestamp is in the future")
        if made_at + ttl < now:
            raise ValueError("aidEncrypted has expired")
        return made_at + ttl

    def _use_up(self, iv: bytes, ends_at: float, now: float) -> None:
        self._seen = {seen: end for seen, end in self._seen.items() if end >= now}
        if iv in self._seen:
            raise ValueError("aidEncrypted was used before, and this captcha takes it once")
        self._seen[iv] = ends_at


def _decoded(name: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"{name} is no standard base64 with padding") from error


def _aad(text: str) -> bytes | None:
    if len(text) > _LONGEST_AAD:
        raise ValueError(f"aidEncryptedAad is over {_LONGEST_AAD} characters")
    return _decoded("aidEncryptedAad", text) or None


def _open_cbc(key: bytes, sealed: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC
    from cryptography.hazmat.primitives.padding import PKCS7

    if len(sealed) % _BLOCK or len(sealed) < 2 * _BLOCK:
        raise ValueError("aidEncrypted is no IV and blocks of AES-CBC")
    opening = Cipher(AES(key), CBC(sealed[:_BLOCK])).decryptor()
    padded = opening.update(sealed[_BLOCK:]) + opening.finalize()
    padding = PKCS7(8 * _BLOCK).unpadder()
    try:
        return padding.update(padded) + padding.finalize()
    except ValueError as error:
        raise ValueError("aidEncrypted is of another key, or altered") from error


def _open_gcm(key: bytes, sealed: bytes, aad: bytes | None) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_GCM_IV], sealed[_GCM_IV:], aad)
    except (InvalidTag, ValueError) as error:
        raise ValueError("aidEncrypted is of another key or AAD, or altered") from error
