"""Validate settings at construction; each error says what is wrong, and the fix."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Literal

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.models import CaptchaInfo

if TYPE_CHECKING:
    from collections.abc import Callable

CallStyle = Literal["sync", "async"]

_METHODS: dict[CallStyle, str] = {"sync": "verify", "async": "averify"}
_REPLAY_STORE: dict[CallStyle, str] = {"sync": "claim", "async": "aclaim"}
_RELEASE: dict[CallStyle, str] = {"sync": "release", "async": "arelease"}
_CALLERS: dict[CallStyle, str] = {
    "sync": "TCaptchaWSGIMiddleware and in_thread call",
    "async": "TCaptchaMiddleware calls",
}
_FIX: dict[CallStyle, str] = {
    "sync": "use a synchronous one",
    "async": "wrap it in in_thread(…), or use an async one",
}
_FIX_REPLAY_STORE: dict[CallStyle, str] = _FIX | {"async": "use an async one"}
_WHOLE = 100
_MINUTE = 60


def require(style: CallStyle, verifier: object) -> None:
    """Validate that an adapter can call `verifier`.

    Raises:
        ConfigurationError: If it is sync and has to be async, or the reverse, or a class.
    """
    validate_instance("verifier", verifier)
    _require(style, verifier, _METHODS[style], _FIX[style])


def require_replay_store(style: CallStyle, replay_store: object) -> None:
    """Validate that an adapter can call a replay store.

    Raises:
        ConfigurationError: If it is sync and has to be async, or the reverse.
    """
    for name in (_REPLAY_STORE[style], _RELEASE[style]):
        _require(style, replay_store, name, _FIX_REPLAY_STORE[style])


def _require(style: CallStyle, instance: object, name: str, fix: str) -> None:
    method, kind = getattr(instance, name, None), type(instance).__name__
    if not callable(method):
        raise ConfigurationError(f"{kind} has no {name}, which {_CALLERS[style]}: {fix}")
    if style == "sync" and inspect.iscoroutinefunction(method):
        raise ConfigurationError(f"{kind}.{name} is async: call it a{name}")


def validate_verifier(verifier: object) -> None:
    """Validate that some adapter can call `verifier`.

    Raises:
        ConfigurationError: If it defines neither method.
    """
    _check_methods("verifier", verifier, _METHODS, "TencentVerifier.from_env()")


def captcha_of(verifier: object) -> CaptchaInfo:
    """Return what a verifier declares about its captcha; the defaults if it declares nothing.

    Raises:
        ConfigurationError: If its `captcha` is not a valid `CaptchaInfo`.
    """
    captcha, name = getattr(verifier, "captcha", CaptchaInfo()), type(verifier).__name__
    if not isinstance(captcha, CaptchaInfo):
        raise ConfigurationError(
            f"{name}.captcha is {type(captcha).__name__}: make it a CaptchaInfo(app_id, …)"
        )
    validate_word(f"site of {name}.captcha", captcha.site, ("cn", "intl"))
    validate_positive(f"lifetime of {name}.captcha", captcha.lifetime)
    if not isfinite(captcha.lifetime):
        raise ConfigurationError(
            f"lifetime of {name}.captcha is {captcha.lifetime}: write seconds; used "
            "tickets are remembered for as long"
        )
    app_id: object = captcha.app_id
    if isinstance(app_id, bool) or not isinstance(app_id, int) or app_id < 0:
        raise ConfigurationError(
            f"app_id of {name}.captcha is {app_id!r}: write the CaptchaAppId as a number, or 0"
        )
    return captcha


def validate_replay_store(replay_store: object) -> None:
    """Validate that some adapter can call a replay store.

    Raises:
        ConfigurationError: If it defines neither method.
    """
    _check_methods(
        "replay_store",
        replay_store,
        _REPLAY_STORE,
        'RedisReplayStore("redis://127.0.0.1:6379/0")',
    )


def validate_single_process(replay_store: object) -> None:
    """Validate the replay store of a vendor that accepts a ticket twice.

    Raises:
        ConfigurationError: If it is a store in memory that other processes may not share.
    """
    if getattr(replay_store, "single_process", True):
        return
    raise ConfigurationError(
        "the vendor accepts these tickets twice, and this replay store is in the memory of one "
        "process, so a ticket could be replayed in another: share a Redis with "
        'replay_store=RedisReplayStore("redis://127.0.0.1:6379/0"), or, if only one process '
        "serves the application, use replay_store=MemoryReplayStore(single_process=True)"
    )


def _check_methods(
    what: str, instance: object, methods: dict[CallStyle, str], example: str
) -> None:
    validate_instance(what, instance)
    if not any(callable(getattr(instance, name, None)) for name in methods.values()):
        neither = " nor ".join(methods.values())
        raise ConfigurationError(
            f"{what} is {type(instance).__name__}, which has neither {neither}: pass an object "
            f"with one, such as {example}, parentheses included"
        )


def validate_instance(what: str, value: object) -> None:
    """Validate that a value is not a class, whose methods could be called by mistake.

    Raises:
        ConfigurationError: If it is a class.
    """
    if isinstance(value, type):
        raise ConfigurationError(
            f"{what} is the class {value.__name__}: pass an instance of it, {value.__name__}(…)"
        )


def validate_wsgi(app: object) -> None:
    """Validate that an application is not an ASGI application, which is never awaited here.

    Raises:
        ConfigurationError: If it is one.
    """
    if is_async(app):
        raise ConfigurationError("this is an ASGI application: use TCaptchaMiddleware")


def is_async(value: object) -> bool:
    """Return whether a call of a function or an object has to be awaited."""
    calls = value, getattr(type(value), "__call__", None)  # noqa: B004  it may not be callable
    return any(map(inspect.iscoroutinefunction, calls))


def validate_asgi(app: Callable[..., object]) -> None:
    """Validate that an application can be called as ASGI demands, unlike a WSGI application.

    Raises:
        ConfigurationError: If it cannot.
    """
    try:
        # A function that a decorator wraps may have other parameters.
        takes = inspect.signature(app, follow_wrapped=False)
    except Exception:
        # Functions in C have no signature; Python 3.14 evaluates annotations here.
        return
    try:
        takes.bind("scope", "receive", "send")
    except TypeError as error:
        raise ConfigurationError(
            "the application cannot be called with scope, receive and send: "
            "if it is a WSGI application, use TCaptchaWSGIMiddleware"
        ) from error


def validate_word(name: str, value: object, words: Sequence[str]) -> None:
    """Validate a setting with few possible words.

    Raises:
        ConfigurationError: If it is another word.
    """
    if value not in words:
        raise ConfigurationError(f"{name} is {value!r}: it must be one of {', '.join(words)}")


def validate_plain_function(name: str, value: object) -> None:
    """Validate a hook that must not be async.

    Raises:
        ConfigurationError: If it is not a function, or async.
    """
    validate_function(name, value)
    if is_async(value):
        raise ConfigurationError(f"{name} is async: make it a plain function")


def validate_function(name: str, value: object) -> None:
    """Validate a hook.

    Raises:
        ConfigurationError: If it is not a function.
    """
    if not callable(value):
        raise ConfigurationError(f"{name} has to be a function, not {value!r}")


def validate_count(name: str, value: object) -> None:
    """Validate a count.

    Raises:
        ConfigurationError: If it is not an integer above 0.
    """
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"{name} is {value!r}: it has to be a whole number above 0")


def validate_percent(name: str, value: object) -> None:
    """Validate a percentage.

    Raises:
        ConfigurationError: If it is not an integer from 0 to 100.
    """
    if type(value) is not int or not 0 <= value <= _WHOLE:
        raise ConfigurationError(f"{name} is {value!r}: it has to be 0 to 100")


def validate_positive(name: str, value: object) -> None:
    """Validate an amount.

    Raises:
        ConfigurationError: If it is not a number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"{name} is {value!r}: it has to be a number above 0")


def validate_timeout(seconds: float, name: str = "timeout") -> float:
    """Return a timeout in seconds.

    Raises:
        ConfigurationError: If it is not a number above 0, or longer than a minute, such as
            milliseconds by mistake. Sockets do not accept infinity.
    """
    validate_positive(name, seconds)
    if seconds > _MINUTE:
        raise ConfigurationError(
            f"{name} is {seconds!r}: it is in seconds, and has to end within a minute"
        )
    return seconds


def validate_list(name: str, value: object, example: str = '["POST /login"]') -> None:
    """Validate a list of rules, or of other texts.

    Raises:
        ConfigurationError: If it is not a list.
    """
    if isinstance(value, str):
        raise ConfigurationError(f"{name} has to be a list: write [{value!r}]")
    if not isinstance(value, Sequence):
        raise ConfigurationError(f"{name} has to be a list, such as {example}")
