"""The guard that the setting `TCAPTCHA` of a Django project describes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.guard import Guard
from tcaptcha_middleware.integrations.django.urlconf import PROJECT, marked_views
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.matching.paths import fold
from tcaptcha_middleware.matching.patterns import parse
from tcaptcha_middleware.rules import DeferringRule, Rule, as_rule
from tcaptcha_middleware.validation import validate_list

if TYPE_CHECKING:
    from tcaptcha_middleware.matching.patterns import Pattern
    from tcaptcha_middleware.validation import CallStyle

# A function view answers every method.
_EXAMPLE = 'TCAPTCHA = {"RULES": ["UNSAFE /login"]}'
_VERIFIER = "tcaptcha_middleware.TencentVerifier.from_env"
_NAMES = {field.name.upper(): field.name for field in fields(Guard) if field.init}
# What a dotted path may name, because a settings file cannot import models. A class, or a
# function without one of these methods, is called for the object.
_METHODS: dict[str, tuple[str, ...]] = {
    "GUARD": ("route",),
    "VERIFIER": ("verify", "averify"),
    "REPLAY_STORE": ("claim", "aclaim"),
    "SWITCH": ("off",),
} | dict.fromkeys(("CLIENT_IP", "ON_EVENT", "RESPONDER", "WHEN"), ())


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
    """Return the guard of the settings, if its verifiers and hooks suit the middleware.

    Args:
        style: How the middleware runs.

    Raises:
        ImproperlyConfigured: If they do not, or `TCAPTCHA` is not valid.
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
            raise ConfigurationError(f"the setting {key!r} is unknown: {advice}")
    if "GUARD" in config:
        guard, others = _object("GUARD", config["GUARD"]), ", ".join(config.keys() - {"GUARD"})
        if others:
            raise ConfigurationError(f"GUARD and {others} are set: set these in the guard")
        if not isinstance(guard, Guard):
            raise ConfigurationError(f"GUARD is {guard!r}: name a Guard, or what returns one")
        return guard
    config = {"RULES": [], "VERIFIER": _VERIFIER, **config}
    validate_list("RULES", config["RULES"], '["UNSAFE /login"]')
    config["RULES"] = _rules([as_rule(rule) for rule in config["RULES"]])
    if not config["RULES"]:
        raise ConfigurationError(
            "no view is marked, and RULES is empty, so nothing is protected: mark a view with "
            'captcha_required, or add "RULES": ["UNSAFE /login"]'
        )
    arguments = {_NAMES[key]: _object(key, value) for key, value in config.items()}
    try:
        return Guard(**arguments)
    except ConfigurationError as error:
        name, _, rest = str(error).partition(" ")
        key = name.upper()
        raise ConfigurationError(f"{key if key in _NAMES else name} {rest}") from error


def _rules(listed: list[Rule]) -> list[Rule]:
    """Return the rules of marked views, and then those that are listed.

    Raises:
        ConfigurationError: If a view would refuse by itself what a listed rule is for.
    """
    patterns = {parse(rule.text) for rule in listed}
    marked: dict[Pattern, Rule] = {}
    for _, rule in marked_views(read(PROJECT)):
        # A rule in both places has the settings of RULES, and an error if the mark has some.
        # Of two URLs with the same path, Django uses the first.
        if parse(rule.text) not in patterns or rule != Rule(rule.text):
            marked.setdefault(parse(rule.text), rule)
    for own, rule in marked.items():
        for pattern in patterns if isinstance(rule, DeferringRule) else ():
            if _overrides(own, pattern):
                raise ConfigurationError(
                    f'"{pattern}" is in RULES, but a view refuses requests for "{rule.text}" '
                    'by itself (mode="defer" or HasCaptcha): name only other methods in RULES, '
                    "or let the gate refuse"
                )
    return [*marked.values(), *listed]


def _overrides(earlier: Pattern, later: Pattern) -> bool:
    """Return whether a rule judges all paths of a later one, and one of its methods."""
    if earlier.below:
        fits = len(later.path) >= len(earlier.path)
    else:
        fits = len(later.path) == len(earlier.path) and not later.below
    same = (
        part is None or (other is not None and fold(part) == fold(other))
        for part, other in zip(earlier.path, later.path, strict=False)
    )
    return fits and all(same) and bool(earlier.known_methods & later.known_methods)


def _object(key: str, value: object) -> Any:
    """Return the object that a value of `TCAPTCHA` is, names, or makes."""
    if key not in _METHODS:
        return value
    if isinstance(value, str):
        value = _named(key, value)
    has_method = any(hasattr(value, method) for method in _METHODS[key])
    if not _METHODS[key] or not callable(value) or (has_method and not inspect.isclass(value)):
        return value
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        raise ConfigurationError(
            f"{key} is {value!r}, which cannot be called without arguments ({error}): name "
            "an object, or a function that makes it"
        ) from error
    except ValueError:
        pass  # some types of C lack a signature
    return value()


def _named(key: str, path: str) -> Any:
    """Return what a dotted path names; an error inside a module is raised as it is."""
    names, value = path.split("."), None
    for number, name in enumerate(names, 1):
        module = ".".join(names[:number])
        may_be_module = name.isidentifier() and (value is None or hasattr(value, "__path__"))
        if value is not None and hasattr(value, name):
            value = getattr(value, name)
        elif may_be_module and find_spec(module) is not None:
            value = import_module(module)
        else:
            raise ConfigurationError(
                f"{key} is {path!r}, which cannot be imported ({module!r} does not exist): "
                'write the whole path, such as "mysite.captcha.name"'
            )
    return value


def _forget(*, setting: str, **_: object) -> None:
    if setting in ("TCAPTCHA", "ROOT_URLCONF"):
        current_guard.cache_clear()
        guard_for.cache_clear()


setting_changed.connect(_forget, dispatch_uid="tcaptcha_middleware")
