"""The gate inside Django: performs what the decision flow asks for on an `HttpRequest`.

It makes no decision; compare it with `asgi.py` and `wsgi.py`. Whether it runs sync or async
depends on the middlewares behind it, and not on the server, so both have to work for the
requests of both handlers.
https://docs.djangoproject.com/en/stable/topics/http/middleware/
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from asgiref.sync import (
    async_to_sync,
    iscoroutinefunction,
    markcoroutinefunction,
    sync_to_async,
)
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.urls import Resolver404, resolve
from django.utils.cache import patch_vary_headers
from django.utils.module_loading import import_string

from tcaptcha_middleware.asgi import SCOPE_KEY, within
from tcaptcha_middleware.asgi import perform as perform_async
from tcaptcha_middleware.asgi import run as run_async
from tcaptcha_middleware.effects import CallHook, ReadBody
from tcaptcha_middleware.flow import decide
from tcaptcha_middleware.integrations.django.body import RequestBody
from tcaptcha_middleware.integrations.django.configuration import guard_for
from tcaptcha_middleware.integrations.django.urlconf import marks_of
from tcaptcha_middleware.models import Allow, EnvironHeaders, RequestInfo
from tcaptcha_middleware.responses import PlainResponse, framed
from tcaptcha_middleware.validation import is_async
from tcaptcha_middleware.wsgi import ENVIRON_KEY
from tcaptcha_middleware.wsgi import run as run_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tcaptcha_middleware.effects import Effect, Flow
    from tcaptcha_middleware.guard import Guard
    from tcaptcha_middleware.models import Refuse
    from tcaptcha_middleware.rules import MatchedRule

# How long a view that a responder returns may take, in seconds.
_ANSWER = 60.0


def is_installed() -> bool:
    """Return whether `CaptchaMiddleware` or a subclass is in the setting `MIDDLEWARE`."""
    for name in settings.MIDDLEWARE:
        with suppress(ImportError):  # which Django reports when it loads this middleware
            middleware = import_string(name)
            if inspect.isclass(middleware) and issubclass(middleware, CaptchaMiddleware):
                return True
    return False


class CaptchaMiddleware:
    """Let only requests with a solved captcha through to the views of a Django project.

    The setting `TCAPTCHA` says what to protect, and how.

    Args:
        get_response: The next middleware, or the view.

    Raises:
        ImproperlyConfigured: If `TCAPTCHA` is missing or not valid, or a verifier, the replay
            store or a `when` is sync and has to be async, or the reverse; or if a subclass has
            a `process_view`.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        if hasattr(type(self), "process_view"):
            raise ImproperlyConfigured(
                f"{type(self).__name__}.process_view would never be called: write it in "
                "another middleware, behind this one"
            )
        self.get_response = get_response
        self._is_async: bool = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        # Django would call a sync method in a thread.
        self.process_view: Any = (
            self._before_view_async if self._is_async else self._before_view
        )
        # At once, so mistakes end the start, and threads do not make one guard each.
        guard_for("async" if self._is_async else "sync")

    def __call__(self, request: Any) -> Any:
        """Serve one request."""
        if self._is_async:
            return self._serve(request)
        guard, body = guard_for("sync"), RequestBody(request)
        response = run_sync(_gate(guard, request, body), body)  # type: ignore[arg-type]
        if response is None:
            response = self.get_response(request)
        return _for_preflights(response, request, guard)

    async def _serve(self, request: Any) -> Any:
        guard, body = guard_for("async"), RequestBody(request)
        response = await run_async(_gate(guard, request, body), body, _perform)
        if response is None:
            response = await self.get_response(request)
        return _for_preflights(response, request, guard)

    def _before_view(self, request: Any, view: Any, _: Any, __: Any) -> Any:
        flow = _undeferred(request, view)
        return None if flow is None else run_sync(flow, RequestBody(request))  # type: ignore[arg-type]

    async def _before_view_async(self, request: Any, view: Any, _: Any, __: Any) -> Any:
        flow = _undeferred(request, view)
        return None if flow is None else await run_async(flow, RequestBody(request), _perform)


def _gate(guard: Guard, request: Any, body: RequestBody) -> Flow[Any]:
    """Return the response of the gate, or None if the request goes on to its view."""
    is_scope = hasattr(request, "scope")
    holder, key = (request.scope, SCOPE_KEY) if is_scope else (request.environ, ENVIRON_KEY)
    # What Django's router will see: a middleware further out may have changed it.
    meta, method, path = request.META, request.method, request.path_info
    mount = (meta.get("SCRIPT_NAME") or "").rstrip("/")
    full_path = mount + path if path.startswith("/") else path
    target = method, full_path, b"", mount, guard.mounted_at
    route = guard.route(target, holder, key)
    if route is None:
        return None
    # Django has decoded a scope's bytes as UTF-8; those of an environ are wrapped in latin-1.
    encoding = "utf-8" if is_scope else "latin-1"
    info = RequestInfo(
        kind="http",
        method=method,
        path=path,
        query=meta.get("QUERY_STRING", "").encode(encoding, "replace"),
        headers=EnvironHeaders(meta),
        peer=meta.get("REMOTE_ADDR") or "",
        root_path=guard.mounted_at or mount,
        raw=request,
    )
    if callable(route):
        return _response((yield from route(info)), method)
    decision = yield from decide(route, info)
    body.put_back()
    if isinstance(decision, Allow):
        guard.record(decision, route, target, holder, key)
        if decision.deferred is not None:
            request.tcaptcha_deferred = guard, route, info, decision.deferred
            # At once if it can be known, and again in front of the view that is called: a
            # middleware may change the path, or call this one without its `process_view`.
            flow = _undeferred(request, _view_of(request))
            return None if flow is None else (yield from flow)
        return None
    response = yield from _refusal(guard, route, info, decision)
    body.end_after(response)
    return response


def _refusal(guard: Guard, rule: MatchedRule, info: RequestInfo, refuse: Refuse) -> Flow[Any]:
    """Return the denial response."""
    request = info.raw
    answer, added = guard.answer(rule, info, refuse)
    if isinstance(answer, PlainResponse):
        return _add(_response(answer, info.method), added)
    # As Django does: an async view works behind sync middlewares, too.
    view = async_to_sync(answer) if is_async(answer) else answer
    return _add((yield CallHook(view, request, _ANSWER)), added)


def _view_of(request: Any) -> Any:
    """Return the view that Django would call now, or None."""
    try:
        return resolve(request.path_info, getattr(request, "urlconf", None)).func
    except Resolver404:
        return None


def _undeferred(request: Any, view: Any) -> Flow[Any] | None:
    """Refuse what was deferred if its view does not answer it; None if the view may run.

    A rule may match more than the marked view, and another middleware may change the path.
    """
    deferred = getattr(request, "tcaptcha_deferred", None)
    if deferred is None:
        return None
    marks = marks_of(view)
    answers = (mark.defers for name, mark in marks if name in ("UNSAFE", request.method))
    return None if any(answers) else _refusal(*deferred)


def _response(answer: PlainResponse, method: str) -> Any:
    headers, content = framed(answer, method)
    response = HttpResponse(content, status=answer.status)
    del response.headers["Content-Type"]
    for name, value in headers:
        if name.lower() == "set-cookie":
            response.cookies.load(value)
        else:
            # Django has one line for a header.
            earlier = response.headers.get(name)
            response.headers[name] = value if earlier is None else f"{earlier}, {value}"
    return response


def _for_preflights(response: Any, request: Any, guard: Guard) -> Any:
    return _add(response, guard.preflight_headers if request.method == "OPTIONS" else ())


def _add(response: Any, headers: Iterable[tuple[str, str]]) -> Any:
    for name, value in headers:
        if name.lower() == "vary":
            patch_vary_headers(response, [value])
            continue
        # Django has one line for a header. Those that end so are lists.
        is_list = name.lower().endswith("-headers")
        before = [response.headers[name]] if is_list and name in response.headers else []
        response.headers[name] = ", ".join([*before, value])
    return response


async def _perform(effect: Effect, body: RequestBody) -> object:
    if isinstance(effect, ReadBody):
        # Django has received it already, or runs this event loop for a single WSGI request.
        return body.read(effect.timeout, may_disconnect=effect.may_disconnect)
    if isinstance(effect, CallHook) and not is_async(effect.hook):
        # It may use the ORM, the session and `request.user`, which an event loop forbids.
        result = await within(effect.timeout, sync_to_async(effect.hook)(effect.request))
        return await within(effect.timeout, result) if inspect.isawaitable(result) else result
    return await perform_async(effect, body)  # type: ignore[arg-type]
