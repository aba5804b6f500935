"""Guess from its path whether a route is one that robots abuse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tcaptcha_middleware.matching.patterns import SAFE_METHODS

if TYPE_CHECKING:
    from tcaptcha_middleware.integrations.routes.route import Route

# The last row is pinyin: log in, register, verification code, SMS, comment, order, pay.
_ANYWHERE = (
    "log[-_]?in|log[-_]?on|sign[-_]?in|sign[-_]?up|register|registration|passw(?:or)?d"
    "|check[-_]?out|payment"
    "|denglu|zhuce|yanzhengma|duanxin|pinglun|dingdan|zhifu"
)
# Too short to be looked for inside other words: "display", "decode", "disorder".
_WORDS = (
    "otp|(?:send|get)?sms|(?:sms|send|get|verify)?codes?|tokens?|invit\\w*|comments?"
    "|orders?|pay"
)
# What a GET may send as well; for the others, GET shows a form or a list.
_BY_GET = re.compile(
    "(?<![a-z])(?:otp|(?:send|get)?sms|(?:sms|send|get)?codes?)(?![a-z])|yanzhengma|duanxin"
)
_SENSITIVE = re.compile(f"{_ANYWHERE}|(?<![a-z])(?:{_WORDS})(?![a-z])")


def is_sensitive(route: Route) -> bool:
    """Return whether a route looks like one that needs a captcha: by its path, or a websocket.

    Args:
        route: The route; the names of its parameters do not count.
    """
    path = re.sub(r"\{.*?\}", "{}", str(route.path))
    path = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", path).lower()
    changes = route.methods is None or not route.methods <= SAFE_METHODS
    words = _SENSITIVE if changes else _BY_GET
    return route.websocket or words.search(path) is not None
