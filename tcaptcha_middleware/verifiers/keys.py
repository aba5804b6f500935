"""Where the API key comes from: given once, or asked of a provider at each check."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from tcaptcha_middleware.errors import ConfigurationError, VerifierError
from tcaptcha_middleware.resilience.lifetimes import PerLoop
from tcaptcha_middleware.tencent.credentials import Credentials

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.credentials import CredentialProvider

Key = tuple[str, str, str | None]
"""SecretId, SecretKey, and the token of a temporary key or None."""
_asking = PerLoop(lambda: anyio.CapacityLimiter(256))


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


def key(credentials: CredentialProvider) -> Key:
    """Return the current API key.

    Raises:
        VerifierError: The provider failed.
    """
    try:
        return credentials.get_credential_info()
    except Exception as error:
        # Not Tencent's captcha, whatever it is: a missing file must not open the gate.
        raise VerifierError(f"no credentials ({type(error).__name__})") from error


async def akey(credentials: CredentialProvider) -> Key:
    """Same as `key`, but awaited."""
    if isinstance(credentials, Credentials):
        return credentials.get_credential_info()
    # The official SDK's credentials refresh themselves with a blocking call. In threads of our
    # own: the application's may all be busy, which must not look as if Tencent were down.
    return await anyio.to_thread.run_sync(
        key, credentials, abandon_on_cancel=True, limiter=_asking.get()
    )
