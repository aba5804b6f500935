"""Extras: which of them brings what is not installed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say how to mend it where the imports inside find something not installed.

    Args:
        extra: The extra that brings it.

    Raises:
        ModuleNotFoundError: With the command that installs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        mend = f"{error}: pip install 'tcaptcha-middleware[{extra}]'"
        raise ModuleNotFoundError(mend, name=error.name) from error
