"""The environment variables of an account: their names, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tcaptcha_middleware.tencent.credentials import Key

VARIABLES = {
    "TENCENTCLOUD_SECRET_ID": "secret_id",
    "TENCENTCLOUD_SECRET_KEY": "secret_key",
    "TENCENTCLOUD_TOKEN": "token",
    "TCAPTCHA_APP_ID": "app_id",
    "TCAPTCHA_APP_SECRET_KEY": "app_secret_key",
    "TCAPTCHA_SITE": "site",
    "TCAPTCHA_ENDPOINT": "endpoint",
    "TCAPTCHA_SCRIPT": "script",
}
"""Each variable, and the verifier's argument that it sets."""

_API_KEY = {"secret_id", "secret_key", "token"}
_NEEDED = {"app_id", "app_secret_key", "secret_id", "secret_key"}
ACCOUNT = tuple(name for name, argument in VARIABLES.items() if argument in _NEEDED)
"""The variables that every account needs."""


# What Tencent's serverless functions (SCF) set; the key is temporary.
_FUNCTION = ("TENCENTCLOUD_SECRETID", "TENCENTCLOUD_SECRETKEY", "TENCENTCLOUD_SESSIONTOKEN")


class FunctionCredentials:
    """The API key of a serverless function, read from the environment at each verification.

    Args:
        environ: The environment.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def get_credential_info(self) -> Key:
        """Return SecretId, SecretKey and token."""
        secret_id, secret_key, token = (self._environ.get(name, "") for name in _FUNCTION)
        return secret_id, secret_key, token or None


def settings_in(environ: Mapping[str, str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a verifier's arguments: those in `arguments`, then the environment's.

    `credentials` replaces the environment's API key. Whitespace and quotes around a value are
    dropped, because `docker run --env-file` and others keep those of the file.

    Raises:
        ConfigurationError: If one is missing; the message names its variable.
    """
    texts = {argument: _unquoted(environ.get(name, "")) for name, argument in VARIABLES.items()}
    values: dict[str, Any] = {name: text for name, text in texts.items() if text} | dict(
        arguments
    )
    is_function = environ.get(_FUNCTION[0]) and environ.get(_FUNCTION[1])
    if is_function and not values.keys() & {"secret_id", "secret_key", "credentials"}:
        values["credentials"] = FunctionCredentials(environ)
    replaced = _API_KEY if values.get("credentials") is not None else set()
    for name in replaced - arguments.keys():
        values.pop(name, None)
    missing = [
        name for name in ACCOUNT if VARIABLES[name] in _NEEDED - replaced - values.keys()
    ]
    if missing:
        raise ConfigurationError(f"set the environment variables {', '.join(missing)}")
    return values


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value
