"""What a guard serves to browsers: `tcaptcha.js`, its settings, and the challenge. No I/O.

Every request for one of these paths is answered here and never reaches the application, so the
paths are not a way around the gate.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from tcaptcha_middleware.browser import MODULE, module_path
from tcaptcha_middleware.browser.challenge import Challenge
from tcaptcha_middleware.browser.navigation import full_load, is_navigation
from tcaptcha_middleware.browser.page import (
    Page,
    fresh_settings,
    shown_captcha,
    static_settings,
)
from tcaptcha_middleware.errors import ConfigurationError
from tcaptcha_middleware.flow import requirement
from tcaptcha_middleware.languages import (
    MESSAGES,
    is_language_tag,
    language_of,
    preferred_language,
    tencent_language,
)
from tcaptcha_middleware.matching.patterns import METHODS
from tcaptcha_middleware.operations import log
from tcaptcha_middleware.responses import PlainResponse, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tcaptcha_middleware.browser.cors import Cors
    from tcaptcha_middleware.effects import Flow
    from tcaptcha_middleware.extraction.sources import Source
    from tcaptcha_middleware.languages import Language
    from tcaptcha_middleware.models import CaptchaInfo, Reason, RequestInfo
    from tcaptcha_middleware.rules import CompiledRule, MatchedRule
    from tcaptcha_middleware.types import Verifier

    Endpoint = Callable[[RequestInfo], Flow[PlainResponse]]

_LONGEST = 2048
_METHODS = ("GET", "HEAD")
# The URL is the same for all versions, so a new one has to arrive soon: after an hour, and a
# day in which the old one is used while the new one is fetched (RFC 5861, section 3).
_CACHED = "public, max-age=3600, stale-while-revalidate=86400"


class BrowserEndpoints:
    """What a guard serves to browsers.

    Args:
        page: The page's settings; None serves nothing.
        own: The guard's verifier and sources.
        compiled_rules: The guard's rules.
        match: Returns the rule that judges a request.
        cors: Makes the CORS headers of the settings; the module is for every origin.

    Raises:
        ConfigurationError: If there is a page and no browser can show the verifier's captcha,
            or if the page needs a secret that a verifier does not have.
    """

    def __init__(
        self,
        page: Page | None,
        own: tuple[Verifier, Sequence[Source]],
        compiled_rules: Iterable[CompiledRule],
        match: Callable[[str, str, bytes, str], MatchedRule | None],
        cors: Cors,
    ) -> None:
        # Sites that serve the module themselves ask for settings without a page.
        self._page = Page() if page is None else page
        self._match, self._cors = match, cors
        self._own = self._shown(*own)
        self._by_rule = {
            rule.name: self._shown(rule.verifier, rule.settings.sources)
            for rule in compiled_rules
        }
        if page is not None and self._own is None:
            raise ConfigurationError(
                f"a page needs a captcha that browsers can show, and {type(own[0]).__name__} "
                "declares none: set captcha=CaptchaInfo(app_id, script=…)"
            )
        self._challenge = None if page is None else Challenge(page)
        self._served: dict[str, Endpoint] = {}
        if page is not None:
            self._served[f"{page.path}/{MODULE}"] = Module()
            self._served[f"{page.path}/settings.json"] = self._serve_settings
        self.paths: tuple[str, ...] = tuple(self._served)

    def _shown(
        self, verifier: Verifier, sources: Sequence[Source]
    ) -> tuple[CaptchaInfo, dict[str, Any]] | None:
        captcha = shown_captcha(verifier)
        if captcha is None:
            return None
        return captcha, static_settings(captcha, self._page, sources)

    def find(self, path: str, root_path: str) -> Endpoint | None:
        """Return the flow that answers requests for a path, or None if it is not an endpoint.

        Args:
            path: The decoded path, with or without the mount before it.
            root_path: The application's mount.
        """
        inner = path.removeprefix(root_path.rstrip("/"))
        return self._served.get(path) or self._served.get(inner)

    def _serve_settings(self, request: RequestInfo) -> Flow[PlainResponse]:
        if request.method not in _METHODS:
            return _wrong_method()
        # The first counts, if there are several of a name.
        query = dict(reversed(parse_qsl(request.query.decode("utf-8", "replace"))))
        for_ = query.get("for", "")
        cors = self._cors.headers(request)
        try:
            settings = self.settings(
                for_,
                request.root_path,
                query.get("language"),
                query.get("lang"),
                preferred_language(request),
            )
        except ConfigurationError:
            return problem(404, "No browser can show the captcha of this rule.", *cors)
        required, fail_open = True, False
        if rule := self._rule(for_, request.root_path):
            method, _, target = for_.partition(" ")
            path, _, target_query = target.partition("?")
            path, mount = unquote(path), request.root_path.rstrip("/")
            if not request.path.startswith(f"{mount}/"):
                path = path.removeprefix(mount)  # as in a WSGI application
            judged = replace(request, method=method, path=path, query=target_query.encode())
            required, fail_open = yield from requirement(rule, judged)
        settings |= {"required": required, "fail_open": fail_open}
        headers = [
            *cors,
            ("Content-Type", "application/json"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        return PlainResponse(200, headers, json.dumps(settings).encode())

    def _rule(self, for_: str, root_path: str) -> MatchedRule | None:
        method, _, target = for_.partition(" ")
        path, _, _ = target.partition("?")
        if len(for_) <= _LONGEST and method in METHODS and path.startswith("/"):
            return self._match(method, path, b"", root_path)
        return None

    def settings(
        self,
        for_: str,
        root_path: str,
        language: str | None = None,
        page_lang: str | None = None,
        preferred: Language = "en",
    ) -> dict[str, Any]:
        """Return the settings for `tcaptcha.js`; see `Guard.public_settings`.

        Args:
            for_: The request that will need the ticket.
            root_path: The application's mount.
            language: A language tag that takes precedence over that of `Page`.
            page_lang: The `lang` of the HTML page.
            preferred: The visitor's language, if none of these has texts.

        Raises:
            ConfigurationError: If no browser can show that rule's captcha.
        """
        rule = self._rule(for_, root_path)
        shown = self._own if rule is None else self._by_rule[rule.name]
        if shown is None:
            of = "the guard" if rule is None else rule.name
            raise ConfigurationError(
                f"no browser can show the captcha of {of}: its verifier declares none: "
                "set captcha=CaptchaInfo(app_id, script=…)"
            )
        captcha, settings = shown
        options = language, self._page.language, page_lang
        tags = [tag for tag in options if is_language_tag(tag)]
        lang: Language = next(filter(None, map(language_of, tags)), preferred)
        texts: dict[str, Any] = {"messages": {"lang": lang, **MESSAGES[lang]}}
        if tags:
            texts["language"] = tencent_language(tags[0])
        return settings | texts | fresh_settings(captcha, self._page)

    def challenge(
        self, rule: MatchedRule, request: RequestInfo, reason: Reason
    ) -> PlainResponse | None:
        """Return the page that shows the challenge, or what loads it; None if neither helps.

        Args:
            rule: The rule that refused the request.
            request: The refused request.
            reason: Why it was refused.
        """
        shown = self._by_rule[rule.name]
        if not shown or reason.status != HTTPStatus.FORBIDDEN:
            return None
        is_page = is_navigation(request, with_frames=True)
        if self._challenge is None:
            if is_page:
                log.no_page(rule)
            return None
        if request.method.upper() != "GET":
            return None
        # First: without `Sec-Fetch-Dest`, a library's request looks like that of a browser.
        if refusal := full_load(request, reason):
            return refusal
        return self._challenge.answer(request, reason, shown[0]) if is_page else None


def _wrong_method() -> PlainResponse:
    return problem(405, "Ask for this with GET.", ("Allow", ", ".join(_METHODS)))


class Module:
    """Serves the module. The file is read once, before there is an event loop."""

    def __init__(self) -> None:
        self._content = module_path().read_bytes()
        self._tag = f'"{hashlib.sha256(self._content).hexdigest()[:32]}"'
        self._headers = [
            ("ETag", self._tag),
            ("Cache-Control", _CACHED),
            # The module is the same for all, and contains no secret.
            ("Access-Control-Allow-Origin", "*"),
            ("X-Content-Type-Options", "nosniff"),
        ]

    def __call__(self, request: RequestInfo) -> Flow[PlainResponse]:
        """Return the module, or that the client has it already; a flow without effects."""
        yield from ()
        if request.method not in _METHODS:
            return _wrong_method()
        # Compared weakly, because a proxy that compresses makes a tag weak (RFC 9110, 13.1.2).
        known = re.findall(r'"[^"]*"|\*', ",".join(request.header("If-None-Match")))
        if self._tag in known or "*" in known:
            return PlainResponse(304, self._headers)
        kind = ("Content-Type", "text/javascript; charset=utf-8")
        return PlainResponse(200, [kind, *self._headers], self._content)
