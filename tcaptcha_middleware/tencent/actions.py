"""Tencent's two actions that verify a ticket, and how they differ.

Tickets of one are not valid for the other. No I/O; `codes` has the meaning of the codes.

https://cloud.tencent.com/document/product/1110/36926
https://cloud.tencent.com/document/product/1302/48499
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tcaptcha_middleware.tencent import codes

if TYPE_CHECKING:
    from tcaptcha_middleware.models import Codes


@dataclass(frozen=True, slots=True, eq=False)
class Action:
    """How tickets of one kind are verified.

    Attributes:
        name: Tencent's name for it.
        without: Parameters of DescribeCaptchaResult that it rejects.
        sites: Which of Tencent's two services have it.
        has_randstr: Whether a ticket is valid only with its randstr.
        refuses_reuse: Whether Tencent is known to refuse a ticket's second use; if not, only
            the replay store stops it.
        codes: The meaning of the answer's `CaptchaCode`.
    """

    name: str
    without: tuple[str, ...]
    sites: tuple[str, ...]
    has_randstr: bool
    refuses_reuse: bool
    codes: Codes = field(repr=False)


WEB = Action(
    name="DescribeCaptchaResult",
    without=(),
    sites=("cn", "intl"),
    has_randstr=True,
    refuses_reuse=True,
    codes=codes.WEB,
)
"""For web pages and apps."""

MINI_PROGRAM = Action(
    name="DescribeCaptchaMiniResult",
    without=("Randstr", "NeedGetCaptchaTime"),
    sites=("cn",),
    has_randstr=False,
    refuses_reuse=False,
    codes=codes.MINI_PROGRAM,
)
"""For WeChat mini-programs. The international API does not have it."""
