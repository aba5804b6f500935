"""How the emulator reads `aidEncrypted`, where its captcha insists on it. No I/O.

Written from Tencent's page alone and apart from what encrypts, so that each judges the other.

https://cloud.tencent.com/document/product/1110/128489
"""

from __future__ import annotations

import re
from base64 import b64decode
from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.credentials import Captcha

_LONGEST_TTL = 86400
_LONGEST_AAD = 128
_KEY = 32
_BLOCK = 16
_GCM_IV = 12
_PLAINTEXT = re.compile(rb"([0-9]{1,20})&([0-9]{1,12})&([0-9]{1,6})")


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
