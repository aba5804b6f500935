"""Report rules that match no route, once the application has all its routes."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from importlib import import_module
from logging import DEBUG, ERROR
from typing import Any

from tcaptcha_middleware.errors import ConfigurationError, ThrottledError
from tcaptcha_middleware.matching.paths import fold
from tcaptcha_middleware.operations.log import logger
from tcaptcha_middleware.threadpool import start_daemon


def report_dead_rules(app: object, guard: Any, root: str = "") -> None:
    """Log each rule of a guard that matches no route; later, and without an error.

    In a thread, because an application with thousands of routes takes seconds to read.

    Args:
        app: The application behind the guard.
        guard: The guard.
        root: Where the server mounts the application.
    """
    # No thread can be started when the process ends, or beyond its limits.
    with suppress(ThrottledError):
        start_daemon(partial(_report, app, guard, root), "tcaptcha-routes")


def _report(app: object, guard: Any, root: str) -> None:
    try:
        # Imported by name, because it knows this package's middlewares.
        check = import_module("tcaptcha_middleware.integrations.routes.check")
        own_mount = check.mount_of(app, guard.mounted_at)
        for finding in check.dead_rules(check.read(app), guard, own_mount or root):
            # A server may have several mounts for one application, and `root` is only one.
            is_below = fold(f"{finding.path}/").startswith(fold(f"{root}/"))
            may_be_elsewhere = not own_mount and not is_below
            if not may_be_elsewhere:
                text = "the rule %r protects nothing: %s"
                logger.warning(text, finding.rule, finding.detail)
    except Exception as error:
        # With a cause it is no mistake of the application: a reader failed.
        is_mistake = isinstance(error, ConfigurationError) and error.__cause__ is None
        text = "the routes of the application cannot be checked: %s"
        logger.log(ERROR if is_mistake else DEBUG, text, error, exc_info=not is_mistake)
