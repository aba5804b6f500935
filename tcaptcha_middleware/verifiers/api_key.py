"""The source of the API key: set once, or asked of a provider at each verification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import ConfigurationError, VerifierError
from tcaptcha_middleware.tencent.credentials import Credentials, plain, validate_key
from tcaptcha_middleware.threadpool import BoundedThreadPool
from tcaptcha_middleware.waiting import Done

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.credentials import CredentialProvider, Key, Secret
    from tcaptcha_middleware.waiting import Steps

# The share of a verification's time that its key may take. The rest is Tencent's; otherwise a
# provider that hangs would look as if Tencent were slow.
_SHARE = 0.5
# Providers of the official SDK refresh their keys with calls that block.
_threads = BoundedThreadPool("tcaptcha-credentials")


def provider(
    secret_id: str | Secret | None,
    secret_key: str | Secret | None,
    token: str | Secret | None,
    credentials: CredentialProvider | None,
) -> CredentialProvider:
    """Return the source of the API key.

    Raises:
        ConfigurationError: If neither a key nor a provider is set, or both, or the key cannot
            be valid.
    """
    if credentials is None:
        return Credentials(plain(secret_id), plain(secret_key), plain(token))
    if secret_id or secret_key or token:
        raise ConfigurationError("set secret_id and secret_key, or credentials, not both")
    names = "get_credential_info", "get_credential"
    if isinstance(credentials, type) or not any(
        callable(getattr(credentials, name, None)) for name in names
    ):
        raise ConfigurationError(
            f"credentials is {type(credentials).__name__}, without get_credential_info(); "
            "pass an object like those of tencentcloud.common.credential"
        )
    return credentials


def api_key(credentials: CredentialProvider, timeout: float) -> Steps[Key]:
    """Return the current API key.

    Args:
        credentials: Its source.
        timeout: Seconds for the whole verification, of which this may take half.

    Raises:
        MisconfiguredError: If the provider returns something that is not a key.
        VerifierError: If the provider fails, or takes too long.
    """
    if isinstance(credentials, Credentials):
        return credentials.get_credential_info()
    asking = _threads.submit(_ask, credentials)
    if not (yield Done(asking, timeout * _SHARE)):
        raise VerifierError("the API key took too long", answered=False, sent=False)
    try:
        key = asking.result()
    except Exception as error:
        # A missing file, for example, says nothing about Tencent and must not open the gate.
        message = f"the API key could not be read ({type(error).__name__})"
        raise VerifierError(message, answered=False, sent=False) from error
    return validate_key(key)


def _ask(credentials: Any) -> object:
    if not hasattr(credentials, "get_credential_info"):
        # Such as the official SDK's EnvironmentVariableCredential.
        credentials = credentials.get_credential()
        if credentials is None:
            return None
    return credentials.get_credential_info()
