"""One exchange through Django's handlers, with our middleware among Django's own.

Each stack has the middleware in another situation: Django runs it sync or async, whichever the
middlewares behind it are, with the requests of both handlers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import router_django  # noqa: F401  configures Django
from adapters import (
    Outcome,
    _reached,
    _refused,
    call_asgi,
    call_wsgi,
    environ_of,
    messages_of,
    scope_of,
)
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.middleware.locale import LocaleMiddleware
from django.test import override_settings
from django.test.utils import override_script_prefix
from django.urls import re_path
from django.utils import translation

from tcaptcha_middleware import Guard, get_decision
from tcaptcha_middleware.integrations.django import CaptchaMiddleware
from tcaptcha_middleware.testing import FakeVerifier

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapters import Exchange

CAPTCHA = "tcaptcha_middleware.integrations.django.CaptchaMiddleware"


VERIFIER = FakeVerifier()
GUARD = Guard(["POST /by-name"], VERIFIER)


def make_guard() -> Guard:
    return GUARD


def is_required(_: object) -> bool:
    return True


class Subclass(CaptchaMiddleware):
    pass


def in_function(get_response: Any) -> Any:
    """Call the gate as Django does, but for its `process_view`."""
    gate = CaptchaMiddleware(get_response)
    return lambda request: gate(request)  # noqa: PLW0108  it has no other methods


class SyncOnly:
    """A middleware as many projects have it."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)


class reads_body(SyncOnly):  # noqa: N801
    def __call__(self, request: Any) -> Any:
        assert request.body
        return self.get_response(request)


class parses_form(SyncOnly):  # noqa: N801
    def __call__(self, request: Any) -> Any:
        assert request.POST
        return self.get_response(request)


class rewrites(SyncOnly):  # noqa: N801
    def __call__(self, request: Any) -> Any:
        request.path_info = request.headers.get("X-Path", request.path_info)
        request.method = request.headers.get("X-Method", request.method)
        return self.get_response(request)


class answers(SyncOnly):  # noqa: N801
    def __call__(self, request: Any) -> Any:
        return HttpResponse("a middleware")


class sets_address(SyncOnly):  # noqa: N801
    def __call__(self, request: Any) -> Any:
        request.META["REMOTE_ADDR"] = "198.51.100.9"
        return self.get_response(request)


def locale(get_response: Any) -> Any:
    return LocaleMiddleware(get_response)


def async_only(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        return await get_response(request)

    return middleware


def async_rewrites(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        request.path_info = request.headers["X-Path"]
        return await get_response(request)

    return middleware


async_rewrites.sync_capable, async_rewrites.async_capable = False, True  # type: ignore[attr-defined]
async_only.sync_capable, async_only.async_capable = False, True  # type: ignore[attr-defined]

BEHIND = {
    "sync": [],
    "async": [],
    "async, run sync": ["SyncOnly"],
    "sync, run async": ["async_only"],
}


@contextmanager
def project(
    patterns: Any,
    config: object,
    behind: Any = (),
    before: Any = (),
    mount: str = "/",
    **more: Any,
) -> Iterator[None]:
    """Let Django serve these URL patterns, with `TCAPTCHA` and our middleware.

    Args:
        patterns: The URL patterns.
        config: The setting `TCAPTCHA`.
        behind: Middlewares of this module behind ours.
        before: Middlewares of this module before ours.
        mount: Where the project is mounted. Django keeps that of a thread's last request, which
            another test may have sent.
        more: More settings.
    """
    named = [[f"{__name__}.{name}" for name in names] for names in (before, behind)]
    settings = {"MIDDLEWARE": [*named[0], CAPTCHA, *named[1]], "TCAPTCHA": config}
    settings["ROOT_URLCONF"] = tuple(patterns)
    limit = {"DATA_UPLOAD_MAX_MEMORY_SIZE": None}
    with override_settings(**settings | limit | more), override_script_prefix(mount):
        yield
    translation.deactivate()  # Django keeps the language of a thread's last request, too


def through_django(kind: str, guard: Guard, exchange: Exchange) -> Outcome:
    """Send the exchange through a stack of `BEHIND`."""
    seen: dict[str, Any] = {}

    def view(request: Any) -> Any:
        seen.update(decision=get_decision(request), body=request.body)
        return HttpResponse()

    with project([re_path("", view)], {"GUARD": guard}, BEHIND[kind]):
        if kind.startswith("sync"):
            status, _, body = call_wsgi(WSGIHandler(), environ_of(exchange))
        else:
            sent = call_asgi(ASGIHandler(), scope_of(exchange), messages_of(exchange))
            if not sent:
                return Outcome("unanswered")
            status, body = sent[0]["status"], sent[1]["body"]
    return _reached(seen) if seen else _refused(status, body)
