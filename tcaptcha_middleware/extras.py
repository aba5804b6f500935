"""Name the extra that installs a missing module."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Add the fix to the error if an import inside finds that a module is not installed.

    Args:
        extra: The extra that installs it.

    Raises:
        ModuleNotFoundError: If a module is missing; with the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"{error}: pip install 'tcaptcha-middleware[{extra}]'"
        raise ModuleNotFoundError(message, name=error.name) from error
