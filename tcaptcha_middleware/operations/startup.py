"""Report rules that judge no route, once the application has all its routes."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from threading import Thread
from typing import Any

from tcaptcha_middleware.operations.log import logger

# What a `MarkedGuard` has if no handler is marked, which it reports itself.
_NO_RULE = ("CONNECT",)


def report_dead_rules(app: object, guard: Any, root: str = "") -> None:
    """Log each rule of a guard that judges no route; later, and without an error.

    In a thread, because an application with thousands of routes takes seconds to read.

    Args:
        app: The application behind the guard.
        guard: The guard.
        root: Where the server mounts the application.
    """
    # No thread can be started when the process ends, or beyond its limits.
    with suppress(RuntimeError):
        Thread(target=_report, args=(app, guard, root), daemon=True).start()


def _report(app: object, guard: Any, root: str) -> None:
    try:
        # Imported by name, because it knows this package's middlewares.
        check = import_module("tcaptcha_middleware.integrations.routes.check")
        root = check.mount_of(app, guard.mounted_at) or root
        for finding in check.dead_rules(check.read(app), guard, root):
            if finding.methods != _NO_RULE:
                text = "the rule %r judges no route of the application: %s"
                logger.warning(text, finding.rule, finding.detail)
    except Exception:
        logger.debug("the routes of the application cannot be read", exc_info=True)
