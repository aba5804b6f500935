"""What cannot work, found on construction: each check says what is wrong and how to mend it."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tcaptcha_middleware.errors import ConfigurationError

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
_MEND: dict[CallStyle, str] = {
    "sync": "use a synchronous one",
    "async": "wrap it in in_thread(…), or use an async one",
}
_MEND_REPLAY_STORE: dict[CallStyle, str] = _MEND | {"async": "use an async one"}
_WHOLE = 100
_MINUTE = 60


def require(style: CallStyle, verifier: object) -> None:
    """Check that `verifier` can serve a face.

    Raises:
        ConfigurationError: It is of the other colour, or a class.
    """
    check_instance("verifier", verifier)
    _require(style, verifier, _METHODS[style], _MEND[style])


def require_replay_store(style: CallStyle, replay_store: object) -> None:
    """Check that a replay store can serve a face.

    Raises:
        ConfigurationError: It is of the other colour.
    """
    for name in (_REPLAY_STORE[style], _RELEASE[style]):
        _require(style, replay_store, name, _MEND_REPLAY_STORE[style])


def _require(style: CallStyle, given: object, name: str, mend: str) -> None:
    method, kind = getattr(given, name, None), type(given).__name__
    if not callable(method):
        raise ConfigurationError(f"{kind} has no {name}, which {_CALLERS[style]}: {mend}")
    if style == "sync" and inspect.iscoroutinefunction(method):
        raise ConfigurationError(f"{kind}.{name} is async: call it a{name}")


def check_verifier(verifier: object) -> None:
    """Check that `verifier` can serve at least one face.

    Raises:
        ConfigurationError: It is none.
    """
    _check_methods("verifier", verifier, _METHODS, "TencentVerifier.from_env()")


def validate_replay_store(replay_store: object) -> None:
    """Check that a replay store can serve at least one face.

    Raises:
        ConfigurationError: It is none.
    """
    _check_methods(
        "claims", replay_store, _REPLAY_STORE, 'RedisReplayStore("redis://127.0.0.1:6379/0")'
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
    what: str, given: object, methods: dict[CallStyle, str], example: str
) -> None:
    check_instance(what, given)
    if not any(callable(getattr(given, name, None)) for name in methods.values()):
        neither = " nor ".join(methods.values())
        raise ConfigurationError(
            f"{what} is {type(given).__name__}, which has neither {neither}: hand in what has "
            f"one, such as {example}, parentheses included"
        )


def check_instance(what: str, given: object) -> None:
    """Check what is called on an instance, and would be called on its class without a word.

    Raises:
        ConfigurationError: It is a class.
    """
    if isinstance(given, type):
        raise ConfigurationError(
            f"{what} is the class {given.__name__}: hand in an instance of it, "
            f"{given.__name__}(…)"
        )


def check_wsgi(app: object) -> None:
    """Check that an application is none for ASGI, which nothing would await.

    Raises:
        ConfigurationError: It is one.
    """
    if is_async(app):
        raise ConfigurationError("this is an ASGI application: use TCaptchaMiddleware")


def is_async(value: object) -> bool:
    """Tell whether a call has to be awaited, be it of a function or of an object."""
    calls = value, getattr(type(value), "__call__", None)  # noqa: B004  it may be no callable at all
    return any(map(inspect.iscoroutinefunction, calls))


def check_asgi(app: Callable[..., object]) -> None:
    """Check that an application can be called as ASGI has it, which none for WSGI can.

    Raises:
        ConfigurationError: It cannot.
    """
    try:
        # What a decorator wraps may well be called in another way.
        takes = inspect.signature(app, follow_wrapped=False)
    except Exception:
        # C tells nothing; and Python 3.14 looks up here what types annotations name.
        return
    try:
        takes.bind("scope", "receive", "send")
    except TypeError as error:
        raise ConfigurationError(
            "the application cannot be called with scope, receive and send: "
            "if it is a WSGI application, use TCaptchaWSGIMiddleware"
        ) from error


def check_word(name: str, value: object, words: Sequence[str]) -> None:
    """Check a setting that is one of a few words.

    Raises:
        ConfigurationError: It is none of them.
    """
    if value not in words:
        raise ConfigurationError(f"{name} is {value!r}: it is one of {', '.join(words)}")


def check_plain_function(name: str, value: object) -> None:
    """Check a hook that may not be async.

    Raises:
        ConfigurationError: It is no function, or async.
    """
    check_function(name, value)
    if is_async(value):
        raise ConfigurationError(f"{name} is async: make it a plain function")


def check_function(name: str, value: object) -> None:
    """Check a hook.

    Raises:
        ConfigurationError: It is no function.
    """
    if not callable(value):
        raise ConfigurationError(f"{name} has to be a function, not {value!r}")


def check_count(name: str, value: object) -> None:
    """Check a count.

    Raises:
        ConfigurationError: It is no whole number above 0.
    """
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"{name} is {value!r}: it has to be a whole number above 0")


def check_percent(name: str, value: object) -> None:
    """Check a share of a hundred.

    Raises:
        ConfigurationError: It is no whole number from 0 to 100.
    """
    if type(value) is not int or not 0 <= value <= _WHOLE:
        raise ConfigurationError(f"{name} is {value!r}: it has to be 0 to 100")


def check_positive(name: str, value: object) -> None:
    """Check an amount.

    Raises:
        ConfigurationError: It is no number above 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"{name} is {value!r}: it has to be a number above 0")


def check_timeout(seconds: float, name: str = "timeout") -> float:
    """Return a deadline that can be kept.

    Raises:
        ConfigurationError: It is no number above 0, or longer than a minute, as where
            milliseconds were meant; infinity no socket takes.
    """
    check_positive(name, seconds)
    if seconds > _MINUTE:
        raise ConfigurationError(
            f"{name} is {seconds!r}: it is in seconds, and has to end within a minute"
        )
    return seconds


def check_list(name: str, value: object) -> None:
    """Check a list of rules.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(value, str):
        raise ConfigurationError(f"{name} has to be a list: write [{value!r}]")
    if not isinstance(value, Sequence):
        raise ConfigurationError(f'{name} has to be a list, such as ["POST /login"]')


def check_some(name: str, value: Sequence[object]) -> None:
    """Check that a list of rules has one.

    Raises:
        ConfigurationError: It is empty.
    """
    if not value:
        raise ConfigurationError(
            f'{name} is empty, so nothing is protected: name "POST /login"'
        )


def check_names(names: Sequence[str]) -> None:
    """Check that every rule can be told from the others.

    Raises:
        ConfigurationError: Two have one name.
    """
    for name, times in Counter(names).items():
        if times > 1:
            raise ConfigurationError(
                f"two rules are called {name!r}: give one a name= of its own"
            )
