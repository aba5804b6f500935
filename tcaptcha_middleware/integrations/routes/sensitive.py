"""Guess from its path whether a route is one that robots abuse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tcaptcha_middleware.matching.patterns import SAFE_METHODS

if TYPE_CHECKING:
    from tcaptcha_middleware.integrations.routes.route import Route

# Written together they may be inside another word ("userlogin"), and separated ("log-in",
# "logIn") only words of their own: "blog-info", "wedding-dance". "customimage" is no "mima".
# The pinyin: log in, register, password, verification code, SMS, invite, comment, message,
# reply, place an order, order, buy, pay, recharge (or reset), withdraw, transfer, redeem,
# submit, recover.
_PHRASES = (
    "log in|log on|sign in(?!g)|sign up|check out"
    "|deng lu|zhu ce|mi ma(?![a-z])|yan zheng ma|duan xin|yao qing|ping lun|liu yan|hui fu"
    "|xia dan|ding dan|gou mai|zhi fu|chong zhi|ti xian|zhuan zhang|dui huan|ti jiao|zhao hui"
)
# "yzm" is a verification code, as in "getyzm".
_ANYWHERE = "register|registration|passw(?:or)?d|payment|yzm(?![a-z])"
# Too short to be looked for inside other words: "display", "decode", "disorder".
_WORDS = "otp|(?:send|get)?sms|(?:sms|send|get|verify)?code|token|invit\\w*|comment|order|pay"


def _pattern(phrases: str, anywhere: str, words: str) -> re.Pattern[str]:
    together, separated = phrases.replace(" ", ""), phrases.replace(" ", "[-_]?")
    return re.compile(f"{together}|{anywhere}|(?<![a-z])(?:{separated}|{words})s?(?![a-z])")


_SENSITIVE = _pattern(_PHRASES, _ANYWHERE, _WORDS)
# What a GET may send as well; for the others, GET shows a form or a list.
_BY_GET = _pattern(
    "yan zheng ma|duan xin", "yzm(?![a-z])", "otp|(?:send|get)?sms|(?:sms|send|get)?code"
)


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
