"""No form of the target reaches a marked view of Django, or a handler that was added late."""

from __future__ import annotations

import asyncio
from functools import partial
from urllib.parse import unquote_to_bytes

import marked_asgi
import marked_wsgi
import pytest
from adapters import Exchange, environ_of, scope_of
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import include, path, re_path
from django_inside import project
from gated_sites import pair
from target_forms import CORPUS, HANDSHAKES, LOGIN, PROTECTED, Form

from tcaptcha_middleware.integrations.django import captcha_required
from tcaptcha_middleware.testing import FakeVerifier

MAKE = {"flask": marked_wsgi.flask_mounts} | marked_asgi.MAKE
HANDLERS = set(PROTECTED)


def parts_of(form, headers):
    """Return what a server makes of a form: method, path, query and headers."""
    path, _, query = form.target.partition(b"?")
    lines = [line.partition(b":")[::2] for line in (*form.headers, *headers)]
    named = [(name.lower().strip(), value.strip()) for name, value in lines]
    return form.method.decode("latin-1"), unquote_to_bytes(path), query, named


async def asgi_answer(app, form, headers=(), kind="http"):
    """Return the status, or True for an accepted handshake, and the handler."""
    method, path, query, named = parts_of(form, headers)
    scope = scope_of(Exchange(), kind) | {
        "method": method,
        "path": path.decode("utf-8", "replace"),
        "raw_path": form.target.partition(b"?")[0],
        "query_string": query,
        "root_path": dict(named).get(b"x-root", b"").decode(),
        "headers": named,
    }
    if kind == "websocket":
        del scope["method"]
        scope |= {"scheme": "ws", "subprotocols": []}
    request = {"type": "http.request", "body": b"", "more_body": False}
    left, sent = [request if kind == "http" else {"type": "websocket.connect"}], []
    answered = asyncio.Event()

    async def receive():
        if not left:
            await answered.wait()
        return left.pop() if left else {"type": f"{kind}.disconnect"}

    async def send(message):
        sent.append(message)
        if message["type"] != "http.response.start" and not message.get("more_body"):
            answered.set()

    try:
        await asyncio.wait_for(app(scope, receive, send), 5)
    except Exception:
        return 500, ""
    heads = [message for message in sent if message["type"] == "http.response.start"]
    if not heads:
        return any(message["type"] == "websocket.accept" for message in sent), ""
    sent_headers = {name.lower(): value.decode() for name, value in heads[0]["headers"]}
    return heads[0]["status"], sent_headers.get(b"x-handler", "")


def wsgi_answer(app, form, headers=()):
    method, path, query, named = parts_of(form, headers)
    environ = environ_of(Exchange()) | {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": dict(named).get(b"x-root", b"").decode(),
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
    }
    for name, value in named:
        key = name.decode("latin-1").upper().replace("-", "_")
        environ[f"HTTP_{key}"] = value.decode("latin-1")
    heads = []
    for _ in app(environ, lambda status, headers, *_: heads.append((status, dict(headers)))):
        pass
    status, answer_headers = heads[0]
    return int(status[:3]), answer_headers.get("X-Handler", "")


def answers(app, corpus, headers=lambda: (), **more):
    """Send each form to an application; return what the answers are."""

    async def main():
        return [await asgi_answer(app, form, headers(), **more) for form in corpus]

    if hasattr(app, "wsgi_app") or isinstance(app, WSGIHandler):
        return [wsgi_answer(app, form, headers()) for form in corpus]
    return asyncio.run(main())


def begin(app):
    """Send the first request, whose handler only observes, and one to a route to come."""
    assert answers(app, [Form(b"POST", b"/comments"), PROTECTED["login"]]) == [
        (200, "comments"),
        (404, ""),
    ]


@pytest.fixture(params=MAKE)
def framework(request):
    return request.param


@pytest.fixture
def late(framework):
    return MAKE[framework](marked_wsgi.SETTINGS, gated=True, begin=begin)


def reached(app, corpus):
    pairs = zip(corpus, answers(app, corpus), strict=True)
    return {str(form): handler for form, (_, handler) in pairs if handler in HANDLERS}


def test_no_form_of_the_target_reaches_a_marked_handler_that_was_added_later(late):
    assert reached(late, CORPUS) == {}


def test_the_gate_answers_for_every_handler_that_was_added_later_at_once(late):
    assert answers(late, PROTECTED.values()) == [(403, "")] * len(PROTECTED)


def test_a_pair_opens_every_handler_that_was_added_later(late):
    opened = answers(late, PROTECTED.values(), pair)
    assert opened == [(200, name) for name in PROTECTED]


def test_without_marks_many_forms_reach_the_handlers(framework):
    unmarked = MAKE[framework]({}, gated=False)
    assert len(reached(unmarked, LOGIN)) > 5


@pytest.mark.parametrize("framework", marked_asgi.MAKE)
def test_no_handshake_reaches_a_marked_websocket_that_was_added_later(late, framework):
    shake = partial(answers, kind="websocket")
    assert [accepted for accepted, _ in shake(late, HANDSHAKES) if accepted is True] == []
    [(accepted, _)] = shake(late, [Form(b"GET", b"/socket")], pair)
    assert accepted is True
    unmarked = shake(MAKE[framework]({}, gated=False), HANDSHAKES)
    assert [accepted for accepted, _ in unmarked].count(True) > 5


# -- Django ------


def urls(mark):
    """Return URLs; safe methods need no captcha, so they name no handler."""

    def view(name):
        def answer(request, **_):
            is_safe = request.method in ("GET", "HEAD")
            return HttpResponse(headers={} if is_safe else {"X-Handler": name})

        return mark(answer)

    return [
        re_path(r"^login/?$", view("login")),
        path("mount/", include([path("login", view("mounted"))])),
        path("users/<id>/code", view("code")),
        path("sms/<phone>", view("sms")),
        path("every", view("every")),
    ]


@pytest.fixture(params=[WSGIHandler, ASGIHandler])
def handler(request):
    return request.param


@pytest.mark.parametrize(
    "settings", [{}, {"MIDDLEWARE": []}], ids=["gated", "the second lock alone"]
)
def test_no_form_of_the_target_reaches_a_marked_view_of_django(handler, settings):
    with project(urls(captcha_required), {"VERIFIER": FakeVerifier()}, **settings):
        assert reached(handler(), CORPUS) == {}


def test_a_pair_opens_every_marked_view_of_django(handler):
    opened = ["login", "mounted", "code", "sms", "every"]
    with project(urls(captcha_required), {"VERIFIER": FakeVerifier()}):
        sent = answers(handler(), [PROTECTED[name] for name in opened], pair)
    assert sent == [(200, name) for name in opened]


def test_without_marks_many_forms_reach_the_views_of_django(handler):
    config = {"VERIFIER": FakeVerifier(), "RULES": ["/other"]}
    with project(urls(lambda view: view), config, MIDDLEWARE=[]):
        assert len(reached(handler(), LOGIN)) > 5
