"""What visitors read in refusals and forms, in English, Simplified and Traditional Chinese.

The English of refusals is in `Reason`. A `responder` replaces all of it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, TypeGuard

from tcaptcha_middleware.models import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tcaptcha_middleware.models import RequestInfo

Language = Literal["en", "zh-cn", "zh-tw"]

# RFC 5646; with the underscore of gettext and ICU, too.
_TAG = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]{1,8})*")
_LONGEST_TAG = 35  # RFC 5646, section 4.4.1

# What `userLanguage` of Tencent's script may be, beside Chinese with a region.
# https://cloud.tencent.com/document/product/1110/36841
_TENCENT = {
    *("ar", "de", "en", "es", "fr", "he", "hi", "id", "it", "ja"),
    *("ko", "lo", "ms", "my", "pl", "pt", "ru", "th", "tr", "vi"),
}

# Regions that write Traditional Chinese, if a tag does not name the script (RFC 5646).
_TRADITIONAL = {"hant", "tw", "hk", "mo"}

_LONG = 256  # how many characters of an `Accept-Language` are read


def is_language_tag(tag: object) -> TypeGuard[str]:
    """Return whether a value is a language tag, such as `"zh-TW"` or `"zh_TW"`."""
    return isinstance(tag, str) and len(tag) <= _LONGEST_TAG and bool(_TAG.fullmatch(tag))


def _subtags(tag: str) -> list[str]:
    return tag.strip().lower().replace("_", "-").split("-")


def language_of(tag: str) -> Language | None:
    """Return the language for a tag such as `"zh-TW"`; None if there are no words in it."""
    primary, *subtags = _subtags(tag)
    if primary == "zh":
        is_traditional = "hans" not in subtags and not _TRADITIONAL.isdisjoint(subtags)
        return "zh-tw" if is_traditional else "zh-cn"
    return "en" if primary == "en" else None


def tencent_language(tag: str) -> str:
    """Return a tag in Tencent's spelling.

    A tag that Tencent does not document is returned in lower case with hyphens.
    """
    primary, *subtags = _subtags(tag)
    if primary == "zh":
        is_hong_kong = language_of(tag) == "zh-tw" and not {"hk", "mo"}.isdisjoint(subtags)
        return "zh-hk" if is_hong_kong else str(language_of(tag))
    return primary if primary in _TENCENT else "-".join([primary, *subtags])


def preferred_language(request: RequestInfo) -> Language:
    """Return the language that a visitor prefers; English if there are no words in another."""
    # Browsers send few different texts, and a longer one is cut, so memory is bounded.
    return _preferred(",".join(request.header("Accept-Language"))[:_LONG])


@lru_cache(maxsize=128)
def _preferred(accept: str) -> Language:
    best: Language = "en"
    highest = 0.0
    for tag, weight in weighted(accept):
        language = language_of(tag)
        if language is not None and weight > highest:
            best, highest = language, weight
    return best


def weighted(accept: str) -> Iterator[tuple[str, float]]:
    """Yield each item of an `Accept` or `Accept-Language`, in lower case, with its weight."""
    for item in accept.split(","):
        name, *parameters = (word.strip().lower() for word in item.split(";"))
        pairs = (parameter.partition("=") for parameter in parameters)
        weight = next((value for key, _, value in pairs if key == "q"), "1")
        # RFC 9110, section 12.4.2; anything but a number accepts nothing.
        is_number = weight.isascii() and weight.replace(".", "", 1).isdecimal()
        yield name, min(float(weight), 1.0) if is_number else 0.0


TITLES: dict[Language, dict[int, str]] = {
    "en": {reason.status: HTTPStatus(reason.status).phrase for reason in Reason},
    "zh-cn": {
        400: "请求无效",
        403: "请完成验证",
        413: "内容过大",
        500: "服务器错误",
        503: "验证服务暂不可用",
    },
    "zh-tw": {
        400: "請求無效",
        403: "請完成驗證",
        413: "內容過大",
        500: "伺服器錯誤",
        503: "驗證服務暫時無法使用",
    },
}
"""A title for each status; in English the status's own phrase."""

DETAILS: dict[Language, dict[Reason, str]] = {
    "en": {reason: reason.detail for reason in Reason},
    "zh-cn": {
        Reason.TICKET_MISSING: "请完成验证，然后重新提交。",
        Reason.TICKET_REJECTED: "验证未通过，请重新验证。",
        Reason.TICKET_EXPIRED: "验证已过期，请重新验证。",
        Reason.TICKET_REUSED: "该验证已被使用，请重新验证。",
        Reason.RISK_DENIED: "验证未通过，请重新验证。",
        Reason.DISASTER_TICKET: "验证码未能加载，请重新验证。",
        Reason.TICKET_MALFORMED: "验证信息格式不正确，请重新验证。",
        Reason.TICKET_AMBIGUOUS: "验证信息重复，请重新验证后再提交。",
        Reason.TARGET_AMBIGUOUS: "请求地址可能有多种含义，请使用常规写法。",
        Reason.REQUEST_MALFORMED: "无法读取请求内容。",
        Reason.BODY_TOO_LARGE: "验证信息之前的内容过大，请减少内容，或先提交验证信息。",
        Reason.VERIFIER_UNAVAILABLE: "验证服务暂不可用，请稍后重试。",
        Reason.OVERLOADED: "验证请求过多，请稍后重试。",
        Reason.MISCONFIGURED: "验证服务配置有误。",
    },
    "zh-tw": {
        Reason.TICKET_MISSING: "請完成驗證，然後重新提交。",
        Reason.TICKET_REJECTED: "驗證未通過，請重新驗證。",
        Reason.TICKET_EXPIRED: "驗證已過期，請重新驗證。",
        Reason.TICKET_REUSED: "此驗證已被使用，請重新驗證。",
        Reason.RISK_DENIED: "驗證未通過，請重新驗證。",
        Reason.DISASTER_TICKET: "驗證碼無法載入，請重新驗證。",
        Reason.TICKET_MALFORMED: "驗證資訊格式不正確，請重新驗證。",
        Reason.TICKET_AMBIGUOUS: "驗證資訊重複，請重新驗證後再提交。",
        Reason.TARGET_AMBIGUOUS: "請求網址可能有多種含義，請使用一般寫法。",
        Reason.REQUEST_MALFORMED: "無法讀取請求內容。",
        Reason.BODY_TOO_LARGE: "驗證資訊之前的內容過大，請減少內容，或先提交驗證資訊。",
        Reason.VERIFIER_UNAVAILABLE: "驗證服務暫時無法使用，請稍後再試。",
        Reason.OVERLOADED: "驗證請求過多，請稍後再試。",
        Reason.MISCONFIGURED: "驗證服務設定有誤。",
    },
}
"""What to do about each refusal; visitors read it too, so it names no field or header."""

BACK: dict[Language, tuple[str, str]] = {
    "en": (
        "Go back: your browser still has what you typed. If you saw no captcha, allow scripts.",
        "Go back",
    ),
    "zh-cn": (
        "请返回上一页，您填写的内容仍在浏览器中。如果没有看到验证码，请允许运行脚本。",
        "返回",
    ),
    "zh-tw": (
        "請返回上一頁，您填寫的內容仍在瀏覽器中。如果沒有看到驗證碼，請允許執行指令碼。",
        "返回",
    ),
}
"""For a refused form: a sentence, and the label of the button."""

RELOAD: dict[Language, str] = {
    "en": "Show the captcha",
    "zh-cn": "显示验证码",
    "zh-tw": "顯示驗證碼",
}
"""The label of the link that loads a page in full."""

NOSCRIPT: dict[Language, str] = {
    "en": "This form has a captcha, which needs JavaScript. "
    "Please allow scripts, and load the page again.",
    "zh-cn": "此表单的验证码需要 JavaScript。请允许运行脚本，然后重新加载页面。",
    "zh-tw": "此表單的驗證碼需要 JavaScript。請允許執行指令碼，然後重新載入頁面。",
}
"""What a form says in a browser that runs no scripts."""

MESSAGES: dict[Language, dict[str, str]] = {
    "en": {
        "loading": "The captcha is loading.",
        "busy": "Please solve the captcha.",
        "solved": "The captcha is solved.",
        "closed": "The captcha was closed. Please try again.",
        "failed": "The captcha could not be loaded. Please try again. "
        "If you use a content blocker, turn it off for this page.",
    },
    "zh-cn": {
        "loading": "正在加载验证码…",
        "busy": "请完成验证。",
        "solved": "验证通过。",
        "closed": "验证已关闭，请重试。",
        "failed": "验证码加载失败，请重试。如果使用了内容拦截插件，请对此页面停用。",
    },
    "zh-tw": {
        "loading": "正在載入驗證碼…",
        "busy": "請完成驗證。",
        "solved": "驗證通過。",
        "closed": "驗證已關閉，請再試一次。",
        "failed": "驗證碼載入失敗，請再試一次。如果使用了內容阻擋程式，請對此頁面停用。",
    },
}
"""What a form says in each state. `tcaptcha.js` has its own for the first and the last."""
