"""The kill switch: lets everyone through at once, and logs it."""

from __future__ import annotations

from tcaptcha_middleware.operations.log import logger


class Switch:
    """Turn a guard off and on again while the application runs, in this process.

    A guard has one as `guard.switch`; one may be shared by several guards. Whatever is let
    through meanwhile is marked and counted as `switched_off`.

    Attributes:
        is_off: Whether everyone is let through; set by `off` and `on`.
    """

    def __init__(self) -> None:
        self.is_off: bool = False

    def off(self, why: str) -> None:
        """Let everyone through from now on.

        Args:
            why: For the log.
        """
        self.is_off = True
        logger.critical("the captcha is switched OFF, nothing is checked: %s", why)

    def on(self) -> None:
        """Check again."""
        self.is_off = False
        logger.critical("the captcha is switched on again")
