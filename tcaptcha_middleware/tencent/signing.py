"""TC3-HMAC-SHA256, the signature of every Tencent Cloud API call.

Pure arithmetic over the very bytes and headers that are sent; the time is an argument.

https://www.tencentcloud.com/document/api/215/38340
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHM = "TC3-HMAC-SHA256"
_DAY = 86400


def authorization(  # noqa: PLR0913  these six are what the signature is made of
    secret_id: str,
    secret_key: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
    timestamp: int,
    service: str = "captcha",
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
    date = _date(timestamp // _DAY)
    scope = f"{date}/{service}/tc3_request"
    signed = ";".join(sorted(name.lower() for name in headers))
    text = f"{ALGORITHM}\n{timestamp}\n{scope}\n{_hash(canonical_request(headers, body))}"
    signature = _hmac(signing_key(secret_key, date, service), text).hex()
    return (
        f"{ALGORITHM} Credential={secret_id}/{scope}, "
        f"SignedHeaders={signed}, Signature={signature}"
    )


def canonical_request(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the canonical form of a POST to `/` without a query."""
    # Sorted by name. Whole lines sort otherwise: a colon comes after a dash.
    pairs = sorted((name.lower(), value.strip().lower()) for name, value in headers.items())
    lines = "".join(f"{name}:{value}\n" for name, value in pairs)
    signed = ";".join(name for name, _ in pairs)
    return f"POST\n/\n\n{lines}\n{signed}\n{_hash(body)}".encode()


@lru_cache(maxsize=16)
def signing_key(secret_key: str, date: str, service: str) -> bytes:
    """Derive the day's key. Kept, because it costs three hashes and holds for a whole day."""
    key = _hmac(f"TC3{secret_key}".encode(), date)
    return _hmac(_hmac(key, service), "tc3_request")


@lru_cache(maxsize=2)
def _date(day: int) -> str:
    # The scope's date is that of the timestamp in UTC. A local date is wrong for eight hours
    # of every day in China.
    return datetime.fromtimestamp(day * _DAY, UTC).strftime("%Y-%m-%d")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
