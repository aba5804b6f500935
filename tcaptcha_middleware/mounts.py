"""Read the mount of an application that knows it without the server.

FastAPI and Django have a setting for the path before their own, and cut it off themselves.
Flask's and Quart's `root_path` is a folder, and Starlette has no such attribute.
"""

from __future__ import annotations

import sys
from typing import Any

from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.matching.paths import is_tame

_FASTAPI = {("fastapi.applications", "FastAPI")}
_DJANGO = {
    ("django.core.handlers.asgi", "ASGIHandler"),
    ("django.core.handlers.wsgi", "WSGIHandler"),
}
# More middlewares than any stack has; an application might lead back to itself.
_DEEPEST = 50


def validate_mount(what: str, mount: object) -> None:
    """Check a mount: empty, or a path as it is after decoding.

    Args:
        what: The setting's name.
        mount: Its value.

    Raises:
        ConfigurationError: If it cannot be a mount.
    """
    if not isinstance(mount, str) or not is_tame(mount) or mount.endswith("/"):
        raise ConfigurationError(
            f"{what} is {mount!r}: write the path before the application's own, decoded and "
            'without a final slash, such as "/api"'
        )


def mount_of(app: object, mounted_at: str) -> str:
    """Return the mount of `app` that its server does not report; empty if unknown.

    Args:
        app: An ASGI or WSGI application, with or without middlewares around it.
        mounted_at: What the guard's user says; empty if they do not.

    Raises:
        ConfigurationError: If the application says otherwise, or something impossible.
    """
    framework = _inner(app, _FASTAPI)
    root_path = str(getattr(framework, "root_path", "")).rstrip("/")
    for what, mount in (
        ("FastAPI's root_path", root_path),
        ("Django's FORCE_SCRIPT_NAME", forced_script_name(app)),
    ):
        validate_mount(what, mount)
        if mount and mounted_at and mount != mounted_at:
            raise ConfigurationError(
                f"mounted_at is {mounted_at!r}, but {what} is {mount!r}: leave mounted_at out"
            )
        mounted_at = mounted_at or mount
    return mounted_at


def forced_script_name(app: object) -> str:
    """Return Django's `FORCE_SCRIPT_NAME` if `app` is Django; empty otherwise.

    Under WSGI, Django takes it for `SCRIPT_NAME` and leaves `PATH_INFO` as it is.
    """
    if _inner(app, _DJANGO) is None:
        return ""
    settings = sys.modules["django.conf"].settings
    # An application that has not been configured yet cannot have been mounted.
    setting = settings.FORCE_SCRIPT_NAME if settings.configured else ""
    return (setting or "").rstrip("/")


def _inner(app: object, kinds: set[tuple[str, str]]) -> Any:
    """Return the application of one of these types in a stack of middlewares."""
    for _ in range(_DEEPEST):
        if any((kind.__module__, kind.__qualname__) in kinds for kind in type(app).__mro__):
            return app
        app = getattr(app, "app", None)
    return None
