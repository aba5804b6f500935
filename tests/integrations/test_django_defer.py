"""`mode="defer"`: the gate verifies, and a marked view refuses, with a form or by itself."""

from __future__ import annotations

import asyncio

import pytest
from django import forms
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse, JsonResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django_inside import BEHIND, project

from tcaptcha_middleware import (
    CaptchaRequired,
    ConfigurationError,
    Guard,
    OutageError,
    PlainResponse,
    Rule,
    Unchecked,
    get_decision,
    require_captcha,
)
from tcaptcha_middleware.health.health import Health
from tcaptcha_middleware.integrations.django import CaptchaMiddleware, captcha_required
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.integrations.django.forms import CaptchaFormMixin
from tcaptcha_middleware.testing import FakeVerifier

CONFIG = {"VERIFIER": "tcaptcha_middleware.testing.FakeVerifier"}
HEADERS = {"X-Captcha-Ticket": "tr03good", "X-Captcha-Randstr": "@r"}
ran = []


@pytest.fixture(autouse=True)
def _forget_what_ran():
    ran.clear()


def unmarked(request, **_):
    ran.append(request.method)
    return HttpResponse("unmarked")


@captcha_required(mode="defer")
def deferring(request, **_):
    ran.append(request.method)
    decision = get_decision(request)
    return JsonResponse({"unchecked": decision.unchecked, "refused": decision.refused})


@captcha_required
def enforcing(request, **_):
    return unmarked(request)


class Form(CaptchaFormMixin, forms.Form):
    name = forms.CharField()

    def clean_name(self):
        ran.append("clean_name")
        return self.cleaned_data["name"]

    def clean(self):
        """Call no other `clean`, as forms may."""
        ran.append("clean")


class LikeDjangosLogin(forms.Form):
    """Takes a request, as AuthenticationForm does."""

    def __init__(self, request=None, *args, **kwargs):
        self.request = request
        super().__init__(*args, **kwargs)


@captcha_required(mode="defer")
def with_form(request):
    form = Form(request.POST if request.method == "POST" else None, request=request)
    if form.is_valid():
        return HttpResponse(f"hello {form.cleaned_data['name']}")
    return HttpResponse(form.as_p())


class Handlers(View):
    @method_decorator(captcha_required(mode="defer"))
    def post(self, request):
        return deferring.__wrapped__(request)

    @method_decorator(captcha_required)
    def put(self, request):
        return unmarked(request)


@method_decorator(captcha_required(mode="defer"), name="dispatch")
class Whole(View):
    def post(self, request):
        return deferring.__wrapped__(request)


class StaysOpen(View):
    @method_decorator(captcha_required(mode="defer"))
    def post(self, request):
        return deferring.__wrapped__(request)

    def put(self, request):
        return unmarked(request)


URLS = [
    path("users/me", unmarked),
    path("users/strict", enforcing),
    path("users/<int:number>", deferring),
    path("form", with_form),
    path("handlers", Handlers.as_view()),
    path("whole", Whole.as_view()),
]


def post(target, data=None, headers=HEADERS, **more):
    return Client(**more).post(target, data or {}, headers=headers)


def without_a_ticket(target, data=None, **headers):
    return post(target, data, headers)


# -- the gate verifies, the view decides ------


@pytest.mark.parametrize("target", ["/users/7", "/handlers", "/whole"])
def test_a_view_that_defers_runs_without_a_ticket_and_sees_why_to_refuse(target):
    with project(URLS, CONFIG):
        answer = without_a_ticket(target).json()
        assert answer == {"unchecked": "deferred", "refused": "ticket_missing"}
        assert post(target).json() == {"unchecked": None, "refused": None}


def test_a_ticket_that_is_rejected_is_deferred_with_its_reason():
    with project(URLS, {"VERIFIER": FakeVerifier(8)}):
        assert post("/users/7").json()["refused"] == "ticket_expired"


def test_a_ticket_is_deferred_to_a_view_once():
    with project(URLS, CONFIG):
        assert post("/users/7").json()["refused"] is None
        assert post("/users/7").json()["refused"] == "ticket_reused"


def test_a_body_that_cannot_be_read_is_refused_before_the_view():
    with project(URLS, CONFIG):
        answer = Client().post("/users/7", "{", content_type="application/json")
    assert (answer.status_code, ran) == (400, [])
    assert answer.json()["code"] == "request_malformed"


def test_a_target_of_several_readings_is_refused_before_the_view():
    other = captcha_required(mode="defer", verifier=FakeVerifier())(deferring.__wrapped__)
    urls = [path("a/<path:rest>", deferring), path("b/<path:rest>", other)]
    with project(urls, CONFIG):
        answer = without_a_ticket("/a/../b/x")
    assert (answer.status_code, ran) == (400, [])
    assert answer.json()["code"] == "target_ambiguous"


def test_for_the_visitors_that_percent_leaves_out_nothing_is_refused():
    view = captcha_required(mode="defer", percent=0)(deferring.__wrapped__)
    with project([path("login", view)], CONFIG):
        answer = without_a_ticket("/login").json()
    assert answer == {"unchecked": "observed", "refused": "ticket_missing"}


def test_a_deferred_refusal_does_not_count_as_a_captcha():
    @captcha_required(mode="defer")
    def view(request):
        with pytest.raises(CaptchaRequired, match="no captcha was verified"):
            require_captcha(request)
        return HttpResponse(str(get_decision(request).unchecked is Unchecked.DEFERRED))

    with project([path("login", view)], CONFIG):
        assert without_a_ticket("/login").content == b"True"


def test_an_event_has_the_reason_that_the_view_gets():
    events = []
    with project(URLS, CONFIG | {"ON_EVENT": events.append}):
        without_a_ticket("/users/7")
    (event,) = events
    assert (event.outcome, event.reason) == ("unchecked", "deferred")
    assert event.decision.refused == "ticket_missing"


# -- other views are refused before they run ------


@pytest.mark.parametrize("kind", BEHIND)
@pytest.mark.parametrize("target", ["/users/me", "/users/strict"])
def test_another_view_that_the_rule_matches_is_refused_before_it_runs(kind, target):
    with project(URLS, CONFIG, BEHIND[kind]):
        if kind.startswith("sync"):
            answer = without_a_ticket(target)
        else:
            answer = asyncio.run(AsyncClient().post(target))
        assert (answer.status_code, ran) == (403, [])
        assert answer.json()["code"] == answer.headers["Tcaptcha-Code"] == "ticket_missing"
        assert post(target).content == b"unmarked"


@pytest.mark.parametrize("kind", BEHIND)
def test_the_view_that_defers_runs_in_every_stack(kind):
    with project(URLS, CONFIG, BEHIND[kind]):
        if kind.startswith("sync"):
            answer = without_a_ticket("/users/7")
        else:
            answer = asyncio.run(AsyncClient().post("/users/7"))
    assert answer.json()["unchecked"] == "deferred"


@pytest.mark.parametrize("behind", ["rewrites", "async_rewrites"])
def test_a_view_that_another_middleware_chooses_is_refused_before_it_runs(behind):
    headers = {"X-Path": "/other"}
    with project([path("other", unmarked), *URLS], CONFIG, [behind]):
        if behind == "rewrites":
            answer = without_a_ticket("/users/7", **headers)
        else:
            answer = asyncio.run(AsyncClient().post("/users/7", headers=headers))
    assert (answer.status_code, ran) == (403, [])


def test_a_subclass_of_the_middleware_with_a_method_for_views_is_an_error():
    class Counting(CaptchaMiddleware):
        def process_view(self, request, view, args, kwargs):
            """Count the views."""

    with (
        project(URLS, CONFIG),
        pytest.raises(
            ImproperlyConfigured, match=r"Counting\.process_view would never be called"
        ),
    ):
        Counting(unmarked)


def test_another_view_is_refused_also_if_a_function_hides_the_middleware():
    with project(URLS, CONFIG, MIDDLEWARE=["django_inside.in_function"]):
        assert without_a_ticket("/users/me").status_code == 403
        assert ran == []
        assert without_a_ticket("/users/7").json()["unchecked"] == "deferred"


def test_what_a_middleware_answers_for_a_path_without_a_view_is_refused():
    with project(URLS, CONFIG, ["answers"]):
        assert without_a_ticket("/users/no-number").status_code == 403
        assert post("/users/no-number").content == b"a middleware"


def test_a_handler_without_the_mark_is_refused_if_a_middleware_changes_the_method():
    with project([path("open", StaysOpen.as_view())], CONFIG, ["rewrites"]):
        assert without_a_ticket("/open").json()["unchecked"] == "deferred"
        ran.clear()
        answer = without_a_ticket("/open", **{"X-Method": "PUT"})
    assert (answer.status_code, ran) == (403, [])


def test_a_handler_that_enforces_is_refused_by_the_gate():
    with project(URLS, CONFIG):
        assert Client().put("/handlers").status_code == 403
    assert ran == []


def test_what_was_deferred_is_refused_by_the_responder():
    config = CONFIG | {"RESPONDER": lambda *_: PlainResponse(418)}
    with project(URLS, config):
        answer = without_a_ticket("/users/me")
    assert (answer.status_code, answer.headers["Tcaptcha-Code"]) == (418, "ticket_missing")


def test_what_was_deferred_is_refused_with_all_that_the_gate_knows(monkeypatch):
    monkeypatch.setattr(Health, "retry_after", 7)
    refused, events = [], []

    def responder(_, refuse):
        refused.append(refuse)
        return PlainResponse(refuse.reason.status)

    config = {"VERIFIER": FakeVerifier(OutageError("down")), "ON_EVENT": events.append}
    with project(URLS, config | {"RESPONDER": responder}):
        assert post("/users/me").status_code == 503
    assert refused[0].retry_after == 7
    assert refused[0].fingerprint == events[-1].decision.fingerprint != ""


def test_a_view_that_enforces_does_not_run_if_one_that_defers_calls_it():
    @captcha_required(mode="defer")
    def view(request):
        return enforcing(request)

    with project([path("login", view)], CONFIG):
        with pytest.raises(CaptchaRequired):
            without_a_ticket("/login")
        assert ran == []
        assert post("/login").content == b"unmarked"


# -- rules that cannot defer ------


@pytest.mark.parametrize("settings", [{"mode": "defer"}, {}])
def test_a_rule_that_is_not_of_a_marked_view_cannot_defer(settings):
    shared = {} if settings else {"mode": "defer"}
    message = r'POST /login: mode="defer" is for marked views of Django only, such as @captcha'
    with pytest.raises(ConfigurationError, match=message):
        Guard([Rule("POST /login", **settings)], FakeVerifier(), **shared)


def test_a_rule_of_the_settings_cannot_defer():
    config = CONFIG | {"RULES": [Rule("POST /other", mode="defer")]}
    with project(URLS, config), pytest.raises(ImproperlyConfigured, match="for marked views"):
        current_guard()


@pytest.mark.parametrize(
    "text",
    ["POST /form", "/form/", "GET,POST /Form", "POST /users/me", "POST /users/{id}"],
)
def test_a_rule_of_the_settings_that_a_view_that_defers_would_switch_off_is_an_error(text):
    message = r'is in RULES, but a view refuses requests for "UNSAFE /(form|users/{number})" by'
    with (
        project(URLS, CONFIG | {"RULES": [text]}),
        pytest.raises(ImproperlyConfigured, match=message),
    ):
        current_guard()


def test_a_rule_below_the_path_of_a_view_that_defers_is_an_error():
    config = CONFIG | {"RULES": ["POST /files/a/b"]}
    with (
        project([path("files/<path:name>", deferring)], config),
        pytest.raises(ImproperlyConfigured, match=r'for "UNSAFE /files/\*\*" by itself'),
    ):
        current_guard()


@pytest.mark.parametrize(
    "text",
    ["GET /form", "POST /form/x", "POST /form/**", "POST /**", "POST /{any}", "PUT /handlers"],
)
def test_a_rule_for_more_than_a_view_that_defers_may_be_listed(text):
    with project(URLS, CONFIG | {"RULES": [text]}):
        assert current_guard().rules[-1].text == text


def test_without_the_gate_a_view_that_defers_does_not_run():
    with project(URLS, CONFIG, MIDDLEWARE=[]), pytest.raises(CaptchaRequired):
        without_a_ticket("/users/7")
    assert ran == []


# -- the form ------


def test_a_refused_form_keeps_what_was_typed_and_has_the_error_of_the_captcha():
    with project(URLS, CONFIG):
        assert "errorlist" not in Client().get("/form").content.decode()
        answer = without_a_ticket("/form", {"name": "Ada"}).content.decode()
        assert 'class="errorlist nonfield"' in answer
        assert "Solve the captcha" in answer
        assert 'value="Ada"' in answer
        assert post("/form", {"name": "Ada"}).content == b"hello Ada"


def test_a_refused_form_runs_no_validation_that_a_robot_could_learn_from():
    with project(URLS, CONFIG):
        without_a_ticket("/form", {"name": "Ada"})
        assert ran == []
        post("/form", {"name": "Ada"})
        assert ran == ["clean_name", "clean"]


LANGUAGES = [
    ({"Accept-Language": "zh-TW"}, [], "請完成驗證"),
    ({"Accept-Language": "zh-CN,en;q=0.5"}, [], "请完成验证"),
    ({"Accept-Language": "fr"}, [], "Solve the captcha"),
    # The page is in the language of the cookie, which Django's middleware reads.
    ({"Accept-Language": "en", "Cookie": "django_language=zh-hant"}, ["locale"], "請完成驗證"),
]


@pytest.mark.parametrize(("headers", "before", "words"), LANGUAGES)
def test_the_error_is_in_the_language_of_the_visitor(headers, before, words):
    with project(URLS, CONFIG, before=before):
        assert words in without_a_ticket("/form", {"name": "x"}, **headers).content.decode()


def test_the_error_has_the_code_of_the_refusal():
    codes = []

    @captcha_required(mode="defer")
    def view(request):
        form = Form(request.POST, request=request)
        codes.extend(error.code for error in form.non_field_errors().as_data())
        return HttpResponse(str(form.cleaned_data))

    with project([path("login", view)], {"VERIFIER": FakeVerifier(9)}):
        assert post("/login", {"name": "Ada"}).content == b"{}"
    assert codes == ["ticket_reused"]


def test_a_form_without_the_gate_raises():
    form = Form({"name": "Ada"}, request=RequestFactory().post("/form"))
    with pytest.raises(CaptchaRequired, match="no rule of the gate covered this request"):
        form.is_valid()


def test_a_form_in_a_view_that_enforces_needs_no_more():
    view = captcha_required(with_form.__wrapped__)
    with project([path("form", view)], CONFIG):
        assert without_a_ticket("/form", {"name": "Ada"}).status_code == 403
        assert post("/form", {"name": "Ada"}).content == b"hello Ada"


def test_the_mixin_fits_a_form_that_takes_a_request_as_the_login_of_django_does():
    class LoginForm(CaptchaFormMixin, LikeDjangosLogin):
        def clean(self):
            ran.append("clean")

    seen = []

    @captcha_required(mode="defer")
    def view(request):
        form = LoginForm(data=request.POST, request=request)
        seen.append((form.is_valid(), form.request is request))
        return HttpResponse()

    with project([path("login", view)], CONFIG):
        without_a_ticket("/login", {"username": "ada", "password": "secret"})
        assert ran == []
        post("/login", {"username": "ada", "password": "secret"})
    assert seen == [(False, True), (True, True)]


def test_the_mixin_behind_the_class_of_the_form_is_an_error():
    message = "Swapped would check no captcha: write CaptchaFormMixin before the form's class"
    with pytest.raises(ConfigurationError, match=message):

        class Swapped(LikeDjangosLogin, CaptchaFormMixin):
            pass


def test_mixins_may_be_based_on_the_one_for_the_captcha():
    class Mixin(CaptchaFormMixin):
        pass

    class Right(Mixin, forms.Form):
        pass

    assert Right(request=None).is_bound is False
    with pytest.raises(ConfigurationError, match="Wrong would check no captcha"):
        type("Wrong", (forms.Form, Mixin), {})


def test_check_knows_the_rule_of_a_view_that_defers():
    with project(URLS, CONFIG):
        rules = {rule.text: rule.settings for rule in current_guard().rules}
    assert rules["UNSAFE /form"] == {"mode": "defer"}
    assert rules["UNSAFE /users/strict"] == {}
