"""`aidEncrypted`: proof that a captcha is shown by its owner, which the page sends to Tencent.

Pure arithmetic except `fresh`: the time and the random bytes are arguments. Needs the extra
`aid`: https://cryptography.io/

https://cloud.tencent.com/document/product/1110/128489
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from typing import TYPE_CHECKING

from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from tcaptcha_middleware.models import CaptchaInfo

MAX_TTL = 86_400
"""How long a value may be valid, in seconds."""

_KEY = 32
_BLOCK = 16
# Tencent refuses a timestamp in the future. A clock that is not synchronised may be ahead by
# some seconds, and then visitors would see no captcha.
_BACKDATED = 60


def require_cryptography() -> None:
    """Validate that the extra is installed.

    Raises:
        ConfigurationError: If it is not.
    """
    from importlib.util import find_spec

    if find_spec("cryptography") is None:
        raise ConfigurationError(
            "aid needs cryptography: pip install 'tcaptcha-middleware[aid]'"
        )


def fresh(captcha: CaptchaInfo, ttl: int) -> str:
    """Return a value that is valid from now on. It may be valid for one use, so keep none.

    It is backdated by a minute, because Tencent refuses a timestamp in the future, and valid
    for a minute longer, as far as `MAX_TTL` allows.

    Args:
        captcha: The captcha's pair.
        ttl: How long it is valid from now on, in seconds.
    """
    timestamp, lifetime = int(time.time()) - _BACKDATED, min(ttl + _BACKDATED, MAX_TTL)
    plain = plaintext(captcha.app_id, timestamp=timestamp, ttl=lifetime)
    return cbc(captcha.app_secret_key, plain, iv=os.urandom(_BLOCK))


def plaintext(app_id: int, *, timestamp: int, ttl: int) -> bytes:
    """Return what is encrypted.

    Args:
        app_id: CaptchaAppId.
        timestamp: Unix seconds, not in the future.
        ttl: How long the value is valid, in seconds.
    """
    return f"{app_id}&{timestamp}&{ttl}".encode("ascii")


def key(app_secret_key: str) -> bytes:
    """Return the AES-256 key: AppSecretKey over and over, up to 32 bytes.

    Tencent does not say what becomes of a longer one; it is cut off, which AES needs.
    """
    text = app_secret_key.encode()
    return (text * _KEY)[:_KEY]


def cbc(app_secret_key: str, plain: bytes, *, iv: bytes) -> str:
    """Return the value of the kind `"cbc"`, Tencent's default: IV and ciphertext, in base64.

    Args:
        app_secret_key: AppSecretKey.
        plain: What `plaintext` returned.
        iv: 16 random bytes.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import CBC

    encryptor = Cipher(AES256(key(app_secret_key)), CBC(iv)).encryptor()
    # PKCS#7 (RFC 5652, section 6.3).
    missing = _BLOCK - len(plain) % _BLOCK
    padded = plain + bytes([missing]) * missing
    return b64encode(iv + encryptor.update(padded) + encryptor.finalize()).decode("ascii")
