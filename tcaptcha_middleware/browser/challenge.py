"""A page that shows the challenge instead of a protected page.

It writes the pair into two cookies and loads the page again, so no target is ever built.
Nothing of the request is echoed: it chooses the language, and the segments in its path are
counted. With a page, the cookies are the last source of every rule.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from tcaptcha_middleware.browser import MODULE
from tcaptcha_middleware.browser.navigation import VARY, is_navigation, path_with_mount
from tcaptcha_middleware.browser.page import policy_of
from tcaptcha_middleware.extraction.pairs import NOTHING, PartialPair, combine
from tcaptcha_middleware.extraction.parsers import MAX_REPEATS
from tcaptcha_middleware.extraction.sources import HeadSource
from tcaptcha_middleware.languages import language_of, preferred_language
from tcaptcha_middleware.matching.paths import segments
from tcaptcha_middleware.models import Reason
from tcaptcha_middleware.responses import STYLE, PlainResponse

if TYPE_CHECKING:
    from tcaptcha_middleware.browser.page import Page
    from tcaptcha_middleware.models import CaptchaInfo, RequestInfo

_WORDS = {
    "en": {
        "title": "Are you human?",
        "first": "Solve a short captcha to see this page.",
        "again": "The last captcha did not let you in. Solve another one to see this page.",
        "button": "I am human",
        "blocked": "This page needs JavaScript. Turn it on, or allow scripts, "
        "and load the page again.",
        "working": "Opening the captcha…",
        "solved": "Solved. The page, or its download, is on its way.",
        "closed": "The captcha was closed. Press the button to open it again.",
        "cookies": "Allow cookies for this site, then press the button.",
        "failed": "The captcha could not be loaded. Press the button to try again.",
        "framed": "This page asks for a captcha, which it cannot show in a frame.",
        "open": "Open it in a tab of its own",
    },
    "zh-cn": {
        "title": "请完成验证",
        "first": "完成验证后即可访问此页面。",
        "again": "上一次验证未通过，请重新验证后访问此页面。",
        "button": "开始验证",
        "blocked": "此页面需要 JavaScript。请启用或允许运行脚本，然后重新加载页面。",
        "working": "正在打开验证码…",
        "solved": "验证通过，正在打开页面或下载文件。",
        "closed": "验证已关闭。请点击按钮重新验证。",
        "cookies": "请允许本网站使用 Cookie，然后点击按钮。",
        "failed": "验证码加载失败。请点击按钮重试。",
        "framed": "此页面需要完成验证，但无法在框架中显示验证码。",
        "open": "在新标签页中打开",
    },
    "zh-tw": {
        "title": "請完成驗證",
        "first": "完成驗證後即可瀏覽此頁面。",
        "again": "上一次驗證未通過，請重新驗證後瀏覽此頁面。",
        "button": "開始驗證",
        "blocked": "此頁面需要 JavaScript。請啟用或允許執行指令碼，然後重新載入頁面。",
        "working": "正在開啟驗證碼…",
        "solved": "驗證通過，正在開啟頁面或下載檔案。",
        "closed": "驗證已關閉。請點擊按鈕重新驗證。",
        "cookies": "請允許本網站使用 Cookie，然後點擊按鈕。",
        "failed": "驗證碼載入失敗。請點擊按鈕重試。",
        "framed": "此頁面需要完成驗證，但無法在框架中顯示驗證碼。",
        "open": "在新分頁中開啟",
    },
}
# A missing, old or used ticket is not the visitor's failure: the cookies outlive their use.
_FAILED = (Reason.TICKET_REJECTED, Reason.RISK_DENIED, Reason.DISASTER_TICKET)
_TICKET, _RANDSTR = "tcaptcha_ticket", "tcaptcha_randstr"
# https://www.rfc-editor.org/rfc/rfc6265bis#section-4.1.3.2
_HOST = "__Host-"
_IN_PAGE = ("title", "button", "blocked", "open")
_SAID = ("working", "solved", "closed", "cookies", "failed", "framed")


class Challenge:
    """Makes the page. Its file is read once, before there is an event loop.

    Args:
        page: The page's settings.
    """

    def __init__(self, page: Page) -> None:
        from pathlib import Path  # late: for guards with a page

        self._page = page
        file = Path(__file__).with_name("challenge.html")
        self._template = Template(file.read_text(encoding="utf-8"))

    def answer(
        self, request: RequestInfo, reason: Reason, captcha: CaptchaInfo
    ) -> PlainResponse:
        """Return the page.

        Args:
            request: Has the preferred language, and the application's mount.
            reason: Why the request was refused.
            captcha: The captcha that is shown.
        """
        import secrets
        from html import escape

        language = language_of(self._page.language or "") or preferred_language(request)
        words = _WORDS[language]
        mount = "".join(f"/{part}" for part in segments(request.root_path))
        data = {
            "module": quote(f"{mount}{self._page.path}/{MODULE}"),
            "depth": path_with_mount(request).count("/"),
            "cookies": [_TICKET, _RANDSTR],
            # The captcha has many more languages than this page.
            "language": self._page.language,
            "say": {name: words[name] for name in _SAID},
        }
        nonce = secrets.token_urlsafe(16)
        body = self._template.substitute(
            {name: escape(words[name]) for name in _IN_PAGE},
            lead=escape(words["again" if reason in _FAILED else "first"]),
            code=escape(reason.value),
            language=language,
            nonce=nonce,
            style=STYLE,
            # A script ends at "</script", even within a string.
            data=json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        )
        headers = [
            ("Content-Type", "text/html; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("Vary", "Accept, Accept-Language"),
            VARY,
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", policy_of(captcha, nonce)),
        ]
        return PlainResponse(reason.status, headers, body.encode())


@dataclass(frozen=True, slots=True)
class NavigationCookie(HeadSource):
    """The two cookies that the challenge wrote, for the page that it replaced.

    A browser sends cookies by itself, so a form on another site could spend a visitor's ticket
    if they counted in requests that change something. Any other request that the browser sends
    meanwhile would waste it. Cookies with `__Host-` before their names, which no other host can
    set, come first.
    """

    def find(self, request: RequestInfo) -> PartialPair:
        """Return every value of both cookies, if a page is opened with `GET` or `HEAD`."""
        pair = NOTHING
        if request.method.upper() not in ("GET", "HEAD") or not is_navigation(request):
            return pair
        # A comma is how WSGI servers join two headers; an encoded value contains none.
        header = ";".join(request.header("Cookie")).replace(",", ";")
        cookies = [
            (name.strip(), value.strip())
            for name, _, value in (
                cookie.partition("=")
                for cookie in header.split(";")
                if _TICKET in cookie or _RANDSTR in cookie
            )
        ]
        for prefix in (_HOST, ""):
            names = [f"{prefix}{name}" for name in (_TICKET, _RANDSTR)]
            named = [(name, value) for name, value in cookies if name in names][:MAX_REPEATS]
            # Decoded last, and not without limit: that takes the most time.
            decoded = [(name, unquote(value)) for name, value in named]
            pair = PartialPair(
                *(combine([v for n, v in decoded if n == name]) for name in names)
            )
            if pair.complete:
                break
        return pair
