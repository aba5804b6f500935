"""The kill switch: lets everyone through at once, and never quietly."""

from __future__ import annotations

from tcaptcha_middleware.operations.log import logger


class Switch:
    """Turn a guard off and on again while the application runs, in this process.

    A guard has one as `guard.switch`; one may be shared by several guards. Whatever is let
    through meanwhile is marked and counted as `switched_off`.
    """

    def __init__(self) -> None:
        self._off = False

    @property
    def is_off(self) -> bool:
        """Whether everyone is let through."""
        return self._off

    def off(self, why: str) -> None:
        """Let everyone through from now on.

        Args:
            why: For the log.
        """
        self._off = True
        logger.critical("the captcha is switched OFF, nothing is checked: %s", why)

    def on(self) -> None:
        """Check again."""
        self._off = False
        logger.critical("the captcha is switched on again")
