"""Where the API key comes from: given once, or asked of a provider at each check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from tcaptcha_middleware.errors import ConfigurationError, VerifierError
from tcaptcha_middleware.tencent.credentials import Credentials
from tcaptcha_middleware.verifiers.workers import Aside

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.credentials import CredentialProvider, Key

# How much of a check's time its key may take. Tencent gets the rest: or else a provider that
# hangs would look as if Tencent were slow.
_SHARE = 0.5
_asking = Aside()
_TOO_SLOW = "the API key took too long"


def provider(
    secret_id: str | None,
    secret_key: str | None,
    token: str | None,
    credentials: CredentialProvider | None,
) -> CredentialProvider:
    """Return the one of the two ways to give an API key that was taken.

    Raises:
        ConfigurationError: Neither was, or both, or the key cannot be one.
    """
    if credentials is None:
        return Credentials(secret_id or "", secret_key or "", token)
    if secret_id or secret_key or token:
        raise ConfigurationError("give secret_id and secret_key, or credentials, not both")
    if not callable(getattr(credentials, "get_credential_info", None)):
        raise ConfigurationError("credentials has no get_credential_info()")
    return credentials


def key(credentials: CredentialProvider, timeout: float) -> Key:
    """Return the current API key.

    Args:
        credentials: Who knows it.
        timeout: Seconds for the whole check, of which this may take half; looked at when it is
            over, because nobody can end a call that blocks.

    Raises:
        VerifierError: The provider failed, or took too long.
    """
    began = time.monotonic()
    try:
        found = credentials.get_credential_info()
    except Exception as error:
        # Not Tencent's captcha, whatever it is: a missing file must not open the gate.
        raise _no_key(f"no credentials ({type(error).__name__})") from error
    if time.monotonic() - began > timeout * _SHARE:
        raise _no_key(_TOO_SLOW)
    return found


async def akey(credentials: CredentialProvider, timeout: float) -> Key:  # noqa: ASYNC109
    """Same as `key`, but awaited, and left behind when time is up."""
    if isinstance(credentials, Credentials):
        return credentials.get_credential_info()
    # The official SDK's credentials refresh themselves with a blocking call.
    with anyio.move_on_after(timeout * _SHARE):
        return await _asking.run(key, credentials, timeout)
    raise _no_key(_TOO_SLOW)


def _no_key(message: str) -> VerifierError:
    return VerifierError(message, answered=False)
