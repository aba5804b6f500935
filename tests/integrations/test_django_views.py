"""`captcha_required`: the rules that follow from marked views, and their lock."""

from __future__ import annotations

import asyncio
import functools
import logging

import pytest
from adapters import Exchange, call_wsgi, environ_of
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import include, path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from django_inside import project
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSet

from tcaptcha_middleware import CaptchaRequired, ConfigurationError, Guard, Rule, get_decision
from tcaptcha_middleware.integrations import marks
from tcaptcha_middleware.integrations.django import captcha_required
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.testing import FakeVerifier

CONFIG = {"VERIFIER": "tcaptcha_middleware.testing.FakeVerifier"}
HEADERS = {"X-Captcha-Ticket": "tr03good", "X-Captcha-Randstr": "@r"}
OTHERS = [HEADERS | {"X-Captcha-Ticket": f"tr03good{number}"} for number in range(9)]
PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
ran = []


@pytest.fixture(autouse=True)
def _forget_what_ran():
    ran.clear()


def run(request, *_, **__):
    ran.append(request.method)
    decision = get_decision(request)
    return HttpResponse(decision.rule if decision else "-")


@captcha_required
def function(request, **_):
    return run(request)


@captcha_required(percent=100, name="strict")
def with_settings(request):
    return run(request)


@captcha_required
async def async_function(request):
    return run(request)


@method_decorator(captcha_required, name="dispatch")
class WholeView(View):
    def get(self, request):
        return run(request)

    post = get


class OneHandler(View):
    def get(self, request):
        return run(request)

    @method_decorator(captcha_required)
    def post(self, request):
        return run(request)

    delete = get


class AsyncView(View):
    @method_decorator(captcha_required)
    async def post(self, request):
        return run(request)


@captcha_required
@api_view(["POST"])
def rest_function(request):
    return Response(run(request).content.decode())


class Users(ViewSet):
    def list(self, request):
        return Response(run(request).content.decode())

    @method_decorator(captcha_required)
    def create(self, request):
        return Response(run(request).content.decode())

    def destroy(self, request, pk):
        return Response(run(request).content.decode())


router = SimpleRouter()
router.register("users", Users, "user")
URLS = [
    path("function", function),
    path(
        "sub/", include([path("f/<int:n>/<slug:s>/", function), path("p/<path:p>", function)])
    ),
    path("settings", with_settings),
    path("async", async_function),
    path("whole", WholeView.as_view()),
    path("outside", csrf_exempt(require_POST(function))),
    path("inside", captcha_required(require_POST(run))),
    path("around-class", captcha_required(View.as_view())),
    path("handler", OneHandler.as_view()),
    path("async-handler", AsyncView.as_view()),
    path("rest", rest_function),
    path("open", run),
    *router.urls,
]
RULES = [
    "UNSAFE /function",
    "UNSAFE /sub/f/{n}/{s}/",
    "UNSAFE /sub/p/**",
    "UNSAFE /settings",
    "UNSAFE /async",
    "UNSAFE /whole",
    "UNSAFE /outside",
    "UNSAFE /inside",
    "UNSAFE /around-class",
    "POST /handler",
    "POST /async-handler",
    "UNSAFE /rest",
    "POST /users/",
]
PATHS = ["/function", "/sub/f/7/x/", "/sub/p/x/y", "/settings", "/async", "/whole", "/outside"]
PATHS += ["/inside", "/handler", "/async-handler", "/rest", "/users/"]


def send(method, target, client=Client, **headers):
    return getattr(client(raise_request_exception=False), method)(target, headers=headers)


# -- rules ------


def test_each_url_of_a_marked_view_has_a_rule():
    with project(URLS, CONFIG):
        rules = current_guard().rules
    assert [rule.text for rule in rules] == RULES
    assert rules[3] == Rule("UNSAFE /settings", name="strict", percent=100)


def test_a_url_may_have_parameters_of_any_name():
    with project([path("<own>/<view>/<handler>/<before>", function)], CONFIG):
        assert Client().post("/a/b/c/d", headers=HEADERS).status_code == 200


def test_rules_of_marked_views_come_before_the_listed_ones():
    with project(URLS[:1], CONFIG | {"RULES": ["POST /a", Rule("/**", mode="observe")]}):
        rules = [rule.text for rule in current_guard().rules]
    assert rules == ["UNSAFE /function", "POST /a", "/**"]


def test_a_rule_that_is_listed_too_has_the_settings():
    with project(URLS[:1], CONFIG | {"RULES": [Rule("UNSAFE /function", percent=7)]}):
        assert current_guard().rules == [Rule("UNSAFE /function", percent=7)]


def test_settings_in_both_places_are_an_error():
    with (
        project(URLS[2:3], CONFIG | {"RULES": [Rule("UNSAFE /settings/")]}),
        pytest.raises(ImproperlyConfigured, match="UNSAFE /settings/: listed twice"),
    ):
        current_guard()


def test_the_first_of_two_views_with_one_url_has_the_rule():
    with project([URLS[2], path("settings", function)], CONFIG):
        (rule,) = current_guard().rules
    assert rule.name == "strict"


def test_a_url_that_no_rule_can_express_is_an_error():
    with (
        project([path("a;b", function)], CONFIG),
        pytest.raises(ImproperlyConfigured, match=r"function.* is marked: rule 'UNSAFE /a;b'"),
    ):
        current_guard()


def test_a_get_handler_cannot_be_marked():
    class Marked(View):
        @method_decorator(captcha_required)
        def get(self, request):
            raise AssertionError

    message = r"is marked: GET stays open: add .GET /report. to RULES instead"
    with (
        project([path("report", Marked.as_view())], CONFIG),
        pytest.raises(ImproperlyConfigured, match=message),
    ):
        current_guard()


@pytest.mark.parametrize(
    ("error", "settings"),
    [(TypeError, {"mod": "observe"}), (ConfigurationError, {"percent": -1})],
)
def test_a_setting_that_is_not_valid_is_an_error_at_the_view(error, settings):
    with pytest.raises(error):
        captcha_required(**settings)(run)


def test_a_view_is_decorated_once():
    with pytest.raises(ConfigurationError, match="marked twice"):
        captcha_required(function)


# -- the gate in front of marked views ------


@pytest.mark.parametrize("target", PATHS)
def test_a_marked_view_runs_only_with_a_ticket(target):
    with project(URLS, CONFIG):
        assert send("post", target).json()["code"] == "ticket_missing"
        assert ran == []
        assert send("post", target, **HEADERS).status_code == 200
        assert ran == ["POST"]


@pytest.mark.parametrize("target", PATHS)
def test_the_lock_of_a_marked_view_works_async_too(target):
    async def main():
        client = AsyncClient()
        refused = await client.post(target)
        return refused.status_code, (await client.post(target, headers=HEADERS)).status_code

    with project(URLS, CONFIG):
        current_guard()
        assert asyncio.run(main()) == (403, 200)
    assert ran == ["POST"]


def test_get_and_handlers_without_a_mark_need_no_ticket():
    with project(URLS, CONFIG):
        for target in ("/function", "/whole", "/handler", "/users/", "/open"):
            assert send("get", target).status_code == 200
        assert send("delete", "/handler").content == b"-"
        assert send("delete", "/users/7/").status_code == 200
    assert ran == [*["GET"] * 5, "DELETE", "DELETE"]


def test_a_method_that_a_view_does_not_answer_needs_a_ticket_as_well():
    with project(URLS, CONFIG):
        for target, headers in zip(
            ("/whole", "/outside", "/inside", "/rest"), OTHERS, strict=False
        ):
            assert send("put", target).status_code == 403
            assert send("put", target, **headers).status_code == 405
    assert ran == []


@pytest.mark.parametrize("target", ["/function", "/async", "/whole", "/inside"])
def test_a_preflight_runs_no_view(target):
    # Django's client cannot send one, because it always sends a header for cookies.
    preflight = Exchange("OPTIONS", target, headers=tuple(PREFLIGHT.items()))
    with project(URLS, CONFIG):
        status, _, body = call_wsgi(WSGIHandler(), environ_of(preflight))
        assert (status, body) == (200, b"")
        assert send("options", target).status_code == 403
    assert ran == []


# -- the lock ------


@pytest.mark.parametrize("target", PATHS)
def test_without_the_gate_a_marked_view_answers_500_and_is_logged(target, caplog):
    with project(URLS, CONFIG, MIDDLEWARE=[]):
        assert send("post", target, **HEADERS).status_code == 500
        with pytest.raises(CaptchaRequired, match="no rule of the gate covered this request"):
            Client().post(target)
    assert ran == []
    records = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert any(isinstance(r.exc_info and r.exc_info[1], CaptchaRequired) for r in records)


def test_a_way_around_the_gate_ends_at_the_lock():
    guard = Guard(["UNSAFE /login"], FakeVerifier())
    with project([re_path("login", function)], {"GUARD": guard}):
        assert send("post", "/login").status_code == 403
        assert send("post", "/login", **HEADERS).status_code == 200
        assert send("post", "/xlogin", **HEADERS).status_code == 500


def test_a_url_pattern_without_an_anchor_is_covered_as_a_whole():
    with project([re_path("login", function)], CONFIG):
        assert send("post", "/xlogin").status_code == 403
        assert send("post", "/xlogin", **HEADERS).status_code == 200


def test_a_view_that_is_called_without_any_middleware_is_locked():
    with override_settings(TCAPTCHA=CONFIG), pytest.raises(CaptchaRequired):
        function(RequestFactory().post("/function"))
    assert function(RequestFactory().get("/function")).status_code == 200


def test_the_decorator_keeps_the_views_name_and_attributes():
    view = captcha_required(csrf_exempt(run))
    assert (view.__name__, view.csrf_exempt) == ("run", True)
    assert functools.partial(captcha_required, percent=7)(run).__wrapped__ is run


def test_a_mark_is_made_once_and_not_for_each_request(monkeypatch):
    urls = [path("handler", OneHandler.as_view()), path("whole", WholeView.as_view())]
    with project(urls, CONFIG):
        send("post", "/handler", **HEADERS)
        monkeypatch.setattr(marks, "parse", lambda text: pytest.fail("parsed for a request"))
        assert send("post", "/handler", **OTHERS[0]).status_code == 200
        assert send("post", "/whole", **OTHERS[1]).status_code == 200
