"""The environment variables with which an application uses an emulator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tcaptcha_middleware.tencent.credentials import VARIABLES

if TYPE_CHECKING:
    from tcaptcha_middleware.testing.emulator import TencentEmulator


def variables(emulator: TencentEmulator, origin: str) -> dict[str, str]:
    """Return what `TencentVerifier.from_env` reads, except `TCAPTCHA_SITE`, which may be any.

    The token is blank, like one that is not set, so it replaces that of a real account.

    Args:
        emulator: The emulator.
        origin: The origin that it is served at.
    """
    settings = emulator.settings | {"endpoint": origin, "script": f"{origin}/TJCaptcha.js"}
    return {
        name: str(settings[argument] or "")
        for name, argument in VARIABLES.items()
        if argument in settings
    }
