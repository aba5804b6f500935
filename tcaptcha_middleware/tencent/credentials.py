"""The two pairs of secrets, and the validation that finds swapped ones.

An API key (SecretId, SecretKey) signs the call; a captcha's pair (CaptchaAppId,
AppSecretKey) names the captcha that was solved. Swapping them is the most common mistake. Both
can be read from environment variables.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tcaptcha_middleware.errors import ConfigurationError, MisconfiguredError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACEHOLDER = re.compile(
    r"(?:AKID|IKID)?(?:x+|\*+|\.+|<.*>|\$?\{.*\}|your.*|my.?secret.*|change.?me|todo|dummy"
    r"|placeholder|example|secret|none|null|undefined)",
    re.IGNORECASE,
)
_PRINTABLE = re.compile(r"[!-~]+")
_QUOTED = re.compile(r"""(["']).*\1""", re.DOTALL)
_API_KEY_ID = ("AKID", "IKID")
_KEY_PARTS = 3

Key = tuple[str, str, str | None]
"""SecretId, SecretKey, and the token of a temporary key or None."""


class Secret(Protocol):
    """Text that is not printed by mistake, such as pydantic's `SecretStr`."""

    def get_secret_value(self) -> str:
        """Return the text."""
        ...


def plain(value: object) -> Any:
    """Return the text of a `Secret`; anything else as it is."""
    reveal = getattr(value, "get_secret_value", None)
    return value if reveal is None else reveal()


def validate_key(key: object) -> Key:
    """Return what a provider returned, if it is an API key.

    Raises:
        MisconfiguredError: If it is not. No call is made with it.
    """
    values = tuple(key) if isinstance(key, (tuple, list)) else ()
    if len(values) != _KEY_PARTS:
        raise _no_key("it must return SecretId, SecretKey and token (None if there is none)")
    secret_id, secret_key, token = values
    if not secret_id and not secret_key:
        raise _no_key("it has no key; is the role bound to this machine, or a variable unset?")
    for name, value in (("SecretId", secret_id), ("SecretKey", secret_key), ("token", token)):
        is_left_out = name == "token" and not value
        if not is_left_out and not (isinstance(value, str) and _PRINTABLE.fullmatch(value)):
            raise _no_key(f"its {name} is blank, or contains blanks or line breaks")
    return secret_id, secret_key, token or None


def _no_key(problem: str) -> MisconfiguredError:
    message = f"the credentials cannot be used: {problem}"
    return MisconfiguredError(message, answered=False, sent=False)


class CredentialProvider(Protocol):
    """Anything that knows the current API key, such as the official SDK's credentials."""

    def get_credential_info(self) -> Key:
        """Return SecretId, SecretKey and the token of a temporary key (None otherwise)."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """A validated API key of Tencent Cloud.

    Args:
        secret_id: SecretId; begins `AKID` (`IKID` on the international site).
        secret_key: SecretKey; never printed.
        token: The token of a temporary key, or None; never printed.

    Raises:
        ConfigurationError: If a value is blank, a placeholder, or one of the captcha's pair.
    """

    secret_id: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Validate both values."""
        _require_text("secret_id", self.secret_id)
        _require_text("secret_key", self.secret_key)
        if self.token:
            _require_text("token", self.token)
        if self.secret_key.startswith(_API_KEY_ID):
            raise ConfigurationError(
                "secret_key holds a SecretId (it begins AKID or IKID): secret_id and "
                "secret_key are swapped"
            )
        if not self.secret_id.startswith(_API_KEY_ID):
            raise ConfigurationError(
                "secret_id is not a SecretId, which begins AKID (IKID on the international "
                "site). Is it the captcha's app_id or app_secret_key? Those two are "
                "separate; the API key is made in the CAM console. A key of another shape "
                "can be passed with credentials="
            )

    def get_credential_info(self) -> Key:
        """Return SecretId, SecretKey and token."""
        return self.secret_id, self.secret_key, self.token


@dataclass(frozen=True, slots=True)
class Captcha:
    """A captcha's validated pair of id and secret.

    Args:
        app_id: CaptchaAppId, a number.
        app_secret_key: AppSecretKey; never printed.

    Raises:
        ConfigurationError: If the id is not a whole number above 0, or a value is blank, a
            placeholder, or one of the API key's pair.
    """

    app_id: int
    app_secret_key: str = field(repr=False)

    def __post_init__(self) -> None:
        """Validate both values."""
        object.__setattr__(self, "app_id", _app_id(self.app_id))
        _require_text("app_secret_key", self.app_secret_key)
        if self.app_secret_key.startswith(_API_KEY_ID):
            raise ConfigurationError(
                "app_secret_key holds a SecretId (it begins AKID or IKID): the captcha's "
                "pair (app_id, app_secret_key) and the API key (secret_id, secret_key) are "
                "swapped"
            )

    @classmethod
    def of(cls, app_id: int | str, app_secret_key: str | Secret) -> Captcha:
        """Make a captcha from an id that may be text; Tencent wants a number."""
        return cls(_app_id(app_id), plain(app_secret_key))


def check_apart(app_secret_key: str | Secret, secret_key: str | Secret | None) -> None:
    """Validate that the captcha's secret is not the API key's.

    Raises:
        ConfigurationError: If both are the same.
    """
    if plain(app_secret_key) == plain(secret_key):
        raise ConfigurationError(
            "app_secret_key and secret_key are the same: one is the captcha's, shown beside "
            "its app_id in the captcha console, the other is the API key's"
        )


def _app_id(value: object) -> int:
    text = str(value).strip() if isinstance(value, (int, str)) else ""
    if text.startswith(_API_KEY_ID):
        raise ConfigurationError(
            "app_id holds a SecretId (it begins AKID or IKID): the captcha's pair (app_id, "
            "app_secret_key) and the API key (secret_id, secret_key) are swapped"
        )
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ConfigurationError(
            "app_id is not a whole number above 0: it is the CaptchaAppId of the captcha "
            "console, such as 199999164"
        )
    return int(text)


def _require_text(name: str, value: object) -> None:
    if value is None:
        advice = ", or credentials=" if name in _API_KEY else ""
        raise ConfigurationError(f"{name} is missing: pass {name}={advice}")
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name} is blank: set it, because it lacks a default")
    if _QUOTED.fullmatch(value):
        raise ConfigurationError(f"{name} is in quotes: remove them")
    if not _PRINTABLE.fullmatch(value):
        raise ConfigurationError(
            f"{name} has blanks, control characters or letters beyond ASCII: copy it again"
        )
    if _PLACEHOLDER.fullmatch(value):
        raise ConfigurationError(f"{name} is still a placeholder: put the real value in")


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
        noun = "variable" if len(missing) == 1 else "variables"
        raise ConfigurationError(
            f"set the environment {noun} {', '.join(missing)} "
            "(without an account: tcaptcha emulator -- COMMAND)"
        )
    return values


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1].strip()
    return value
