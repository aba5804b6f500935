"""The environment variables of an account: their names, and how they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

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
"""Each with the verifier's argument that it stands for."""

_API_KEY = {"secret_id", "secret_key", "token"}
_NEEDED = {"app_id", "app_secret_key", "secret_id", "secret_key"}
ACCOUNT = tuple(name for name, argument in VARIABLES.items() if argument in _NEEDED)
"""Those without which there is no account."""


def settings_in(environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a verifier's arguments: those that are given, and the environment's beside them.

    Where `credentials` is given, it stands in for the environment's API key.

    Raises:
        ConfigurationError: One is missing; the message names its variable.
    """
    unasked = _API_KEY if given.get("credentials") is not None else set()
    found = {argument: environ.get(name) for name, argument in VARIABLES.items()}
    asked = {name: value for name, value in found.items() if value and name not in unasked}
    told = asked | dict(given)
    needed = _NEEDED - unasked
    missing = [name for name in ACCOUNT if VARIABLES[name] in needed - told.keys()]
    if missing:
        raise ConfigurationError(f"set the environment variables {', '.join(missing)}")
    return told
