"""The emulator's tickets: minted, kept for as long as they matter, and found again. No I/O.

How calls about them are answered stands in `answers`.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from tcaptcha_middleware.models import PASSED_CODE
from tcaptcha_middleware.tencent.actions import MINI_PROGRAM, WEB
from tcaptcha_middleware.testing.answers import LIFETIME, Minted, play

if TYPE_CHECKING:
    from tcaptcha_middleware.tencent.credentials import Captcha
    from tcaptcha_middleware.testing.emulator._calls import Call

_KINDS = {"web": WEB, "mini": MINI_PROGRAM}


class Ledger:
    """Every ticket that is out, and how each is answered. Not for two threads at once.

    Args:
        captcha: The captcha whose tickets these are, where nothing else is said.
        more: Further ones.
    """

    def __init__(self, captcha: Captcha, *more: Captcha) -> None:
        self._app_id = captcha.app_id
        self._secrets = {one.app_id: one.app_secret_key for one in (captcha, *more)}
        self._minted: OrderedDict[str, Minted] = OrderedDict()

    def mint(  # noqa: PLR0913  a ticket is made of these
        self,
        now: float,
        *,
        kind: str = "web",
        code: int = PASSED_CODE,
        evil_level: int = 0,
        score: int | None = None,
        age: float = 0,
        app_id: int | None = None,
    ) -> dict[str, str]:
        """Make a ticket; see `TencentEmulator.mint`."""
        self._forget(now)
        ticket = f"tr03{secrets.token_urlsafe(96)}*"
        randstr = f"@{secrets.token_hex(2)[:3]}"
        action = _KINDS[kind]
        self._minted[ticket] = Minted(
            action=action,
            randstr=randstr,
            app_id=self._app_id if app_id is None else app_id,
            minted_at=now,
            fetched_at=now - age,
            code=code,
            evil_level=evil_level,
            score=score,
        )
        pair = {"ticket": ticket, "randstr": randstr}
        return pair if action.needs_randstr else {"ticket": ticket}

    def _forget(self, now: float) -> None:
        # The oldest stand first. Those that expired lately are kept, to be told of as such.
        while self._minted:
            ticket, minted = self._minted.popitem(last=False)
            if minted.minted_at >= now - 2 * LIFETIME:
                self._minted[ticket] = minted
                self._minted.move_to_end(ticket, last=False)
                return

    def play(self, call: Call, now: float, scripted: int | None = None) -> dict[str, Any]:
        """Return the answer to a call; `scripted` wins over the ticket's code."""
        minted = self._minted.get(call.asked["Ticket"])
        return play(call, minted, self._secrets, now, scripted)
