"""The guard that the setting `TCAPTCHA` of a Django project describes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.validation import check_list

if TYPE_CHECKING:
    from tcaptcha_middleware.validation import CallStyle

_EXAMPLE = 'TCAPTCHA = {"RULES": ["POST /login"]}'
_VERIFIER = "tcaptcha_middleware.TencentVerifier.from_env"
_NAMES = {field.name.upper(): field.name for field in fields(Guard) if field.init}
# Settings files cannot import models, so what may need them can be named by its dotted path;
# and a class or function without these methods is called for the object.
_METHODS: dict[str, tuple[str, ...]] = {
    "GUARD": ("route",),
    "VERIFIER": ("verify", "averify"),
    "REPLAY_STORE": ("claim", "aclaim"),
    "SWITCH": ("off",),
    "CLIENT_IP": (),
    "ON_EVENT": (),
    "RESPONDER": (),
    "WHEN": (),
}
_CHANGES = ("TCAPTCHA", "ROOT_URLCONF")


@cache
def current_guard() -> Guard:
    """Return the guard of the settings: the same one until a test overrides them.

    Raises:
        ImproperlyConfigured: If `TCAPTCHA` is missing or not valid.
    """
    config = getattr(settings, "TCAPTCHA", None)
    if not isinstance(config, Mapping):
        state = "missing" if config is None else f"{config!r}, not a dictionary"
        raise ImproperlyConfigured(f"the setting TCAPTCHA is {state}: write {_EXAMPLE}")
    try:
        return _guard(config)
    except ConfigurationError as error:
        raise ImproperlyConfigured(f"TCAPTCHA: {error}") from error


@cache
def guard_for(style: CallStyle) -> Guard:
    """Return the guard of the settings, once it is known that it can be used in a style.

    Args:
        style: How the middleware runs.

    Raises:
        ImproperlyConfigured: If `TCAPTCHA` is not valid, or a verifier, the replay store or a
            `when` is sync and has to be async, or the reverse.
    """
    guard = current_guard()
    try:
        guard.require(style)
    except ConfigurationError as error:
        raise ImproperlyConfigured(f"TCAPTCHA: {error}") from error
    return guard


def _guard(config: Mapping[str, Any]) -> Guard:
    for key in config:
        if key != "GUARD" and key not in _NAMES:
            similar = get_close_matches(str(key).upper(), ["GUARD", *_NAMES], 1)
            advice = f"did you mean {similar[0]}?" if similar else f"write {_EXAMPLE}"
            raise ConfigurationError(f"there is no setting {key!r}: {advice}")
    if "GUARD" in config:
        others = ", ".join(key for key in config if key != "GUARD")
        if others:
            raise ConfigurationError(f"GUARD and {others} are set: set these in the guard")
        guard = _object("GUARD", config["GUARD"])
        if not isinstance(guard, Guard):
            raise ConfigurationError(
                f"GUARD is {guard!r}: name a Guard, or a function that returns one"
            )
        return guard
    config = {"RULES": [], "VERIFIER": _VERIFIER, **config}
    check_list("RULES", config["RULES"])
    return Guard(**{_NAMES[key]: _object(key, value) for key, value in config.items()})


def _object(key: str, value: object) -> Any:
    """Return the object that a value of `TCAPTCHA` is, names, or makes."""
    if key not in _METHODS:
        return value
    if isinstance(value, str):
        try:
            value = resolve_name(value)
        except (AttributeError, ImportError, ValueError) as error:
            raise ConfigurationError(
                f"{key} is {value!r}, which cannot be imported ({error}): write the whole "
                'path, such as "mysite.captcha.name"'
            ) from error
    has_methods = any(hasattr(value, method) for method in _METHODS[key])
    if not _METHODS[key] or not callable(value) or (has_methods and not inspect.isclass(value)):
        return value
    try:
        return value()
    except TypeError as error:
        raise ConfigurationError(
            f"{key} is {value!r}, which cannot be called without arguments ({error}): name "
            "an object, or a function that makes it"
        ) from error


def _forget(*, setting: str, **_: object) -> None:
    if setting in _CHANGES:
        current_guard.cache_clear()
        guard_for.cache_clear()


setting_changed.connect(_forget, dispatch_uid="tcaptcha_middleware")
