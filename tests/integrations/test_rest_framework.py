"""`HasCaptcha`: a permission of Django REST framework, with the framework's own answers."""

from __future__ import annotations

import pytest
import rest_framework.exceptions
from adapters import Exchange, call_wsgi, environ_of
from django.core.handlers.wsgi import WSGIHandler
from django.urls import path
from django_inside import project
from rest_framework.decorators import action, api_view, permission_classes
from rest_framework.generics import CreateAPIView
from rest_framework.permissions import SAFE_METHODS, AllowAny, BasePermission
from rest_framework.renderers import BrowsableAPIRenderer
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import CharField, Serializer
from rest_framework.test import APIClient
from rest_framework.views import APIView, exception_handler
from rest_framework.viewsets import ViewSet

from tcaptcha_middleware import CaptchaRequired, OutageError, get_decision
from tcaptcha_middleware.health.health import Health
from tcaptcha_middleware.integrations.django.checks import check_settings
from tcaptcha_middleware.integrations.django.configuration import current_guard
from tcaptcha_middleware.integrations.rest_framework import CaptchaRefused, HasCaptcha
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.testing import FakeVerifier

CONFIG = {"VERIFIER": "tcaptcha_middleware.testing.FakeVerifier"}
REST = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
REST["DEFAULT_RENDERER_CLASSES"] = ["rest_framework.renderers.JSONRenderer"]
HEADERS = {"X-Captcha-Ticket": "tr03good", "X-Captcha-Randstr": "@r"}
PREFLIGHT = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
ran = []


@pytest.fixture(autouse=True)
def _forget_what_ran():
    ran.clear()


def run(request):
    ran.append(request.method)
    decision = get_decision(request)
    return Response({"rule": decision.rule if decision else "-"})


class Comments(APIView):
    permission_classes = (HasCaptcha,)

    def get(self, request):
        return run(request)

    post = put = get


class Staff(BasePermission):
    def has_permission(self, request, view):
        return request.headers.get("X-Staff") == "yes"


class Orders(APIView):
    permission_classes = (AllowAny & (Staff | HasCaptcha),)

    def post(self, request):
        return run(request)


@api_view(["POST"])
@permission_classes([HasCaptcha])
def invite(request):
    return run(request)


class Users(ViewSet):
    def create(self, request):
        return run(request)

    @action(detail=False, methods=["post"], permission_classes=[HasCaptcha])
    def register(self, request):
        return run(request)


class Reports(Comments):
    permission_classes = (Staff | HasCaptcha,)


class IsWriting(BasePermission):
    def has_permission(self, request, view):
        return request.method not in SAFE_METHODS


class Salaries(Comments):
    permission_classes = (Staff | (IsWriting & HasCaptcha),)


class Dynamic(Comments):
    permission_classes = (AllowAny,)

    def get_permissions(self):
        return [HasCaptcha()]


router = SimpleRouter()
router.register("users", Users, "user")
URLS = [
    path("comments", Comments.as_view()),
    path("orders", Orders.as_view()),
    path("invite", invite),
    *router.urls,
    path("dynamic", Dynamic.as_view()),
]
RULES = ["UNSAFE /comments", "UNSAFE /orders", "UNSAFE /invite", "UNSAFE /users/register/"]
PROTECTED = ["/comments", "/orders", "/invite", "/users/register/"]


def api(config=CONFIG, **more):
    return project(URLS, config, REST_FRAMEWORK=REST | more)


def test_each_view_with_the_permission_has_a_rule():
    with api():
        assert [rule.text for rule in current_guard().rules] == RULES


class InASet(Comments):
    permission_classes = frozenset({HasCaptcha})


def test_permissions_may_be_any_collection():
    with project([path("a", InASet.as_view())], CONFIG, REST_FRAMEWORK=REST):
        assert APIClient().post("/a").status_code == 403
        assert APIClient().post("/a", headers=HEADERS).status_code == 200


def test_check_shows_the_views_with_the_permission_as_covered():
    with api():
        application = WSGIHandler()
        findings = {f.path: f.status for f in check(application)}
    assert {findings[path] for path in PROTECTED} == {"covered"}
    assert findings["/users/"] == "uncovered"


def test_a_view_with_the_permission_outside_the_gate_is_a_mistake_that_checks_report():
    with api():
        assert list(check_settings()) == []
    with project(URLS[:1], CONFIG, MIDDLEWARE=[], REST_FRAMEWORK=REST):
        (message,) = check_settings()
    assert message.id == "tcaptcha.E002"
    assert message.msg.endswith("marked views answer 500")


@pytest.mark.parametrize("target", PROTECTED)
def test_a_view_with_the_permission_runs_only_with_a_ticket(target):
    with api():
        refused = APIClient().post(target, format="json")
        assert (refused.status_code, ran) == (403, [])
        assert refused.headers["Tcaptcha-Code"] == "ticket_missing"
        words = "Solve the captcha, and send this again."
        assert refused.json() == {"detail": words}
        assert APIClient().post(target, format="json", headers=HEADERS).status_code == 200
        assert ran == ["POST"]


def test_get_and_other_actions_need_no_ticket():
    with api():
        assert APIClient().get("/comments").status_code == 200
        assert APIClient().post("/users/").json() == {"rule": "-"}


def test_a_refusal_is_in_the_language_of_the_client():
    with api():
        answer = APIClient().post("/comments", headers={"Accept-Language": "zh-CN"})
    assert answer.json()["detail"].startswith("请完成验证")


def test_a_refusal_goes_through_the_handler_of_the_project():
    seen = []

    def handler(error, context):
        seen.append((type(error), error.get_codes(), error.status_code))
        response = exception_handler(error, context)
        response.data = {"errors": [str(error)]}
        return response

    with api(EXCEPTION_HANDLER=handler):
        answer = APIClient().post("/comments")
    assert seen == [(CaptchaRefused, "ticket_missing", 403)]
    assert answer.json() == {"errors": ["Solve the captcha, and send this again."]}
    assert issubclass(CaptchaRefused, rest_framework.exceptions.APIException)


def test_an_outage_is_answered_503_with_a_time_to_retry(monkeypatch):
    monkeypatch.setattr(Health, "retry_after", 7)
    with api({"VERIFIER": FakeVerifier(OutageError("down"))}):
        answer = APIClient().post("/comments", headers=HEADERS)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.headers["Tcaptcha-Code"] == "verifier_unavailable"


def test_a_permission_before_it_decides_if_a_captcha_is_needed():
    with api():
        assert APIClient().post("/orders", headers={"X-Staff": "yes"}).status_code == 200


@pytest.mark.parametrize(("view", "read"), [(Reports, 200), (Salaries, 403)])
def test_a_captcha_instead_of_a_permission_is_needed_for_unsafe_methods(view, read):
    staff = {"X-Staff": "yes"}
    with project([path("a", view.as_view())], CONFIG, REST_FRAMEWORK=REST):
        assert APIClient().get("/a", headers=staff).status_code == 200
        assert APIClient().get("/a").status_code == read
        ran.clear()
        assert APIClient().post("/a").status_code == 403
        assert ran == []
        assert APIClient().post("/a", headers=staff).status_code == 200
        assert APIClient().post("/a", headers=HEADERS).status_code == 200


class Report(Salaries):
    def put(self, request):
        self.check_object_permissions(request, object())
        return run(request)


def test_a_captcha_instead_of_a_permission_counts_for_objects_too():
    with project([path("a", Report.as_view())], CONFIG, REST_FRAMEWORK=REST):
        assert APIClient().put("/a").status_code == 403
        assert APIClient().put("/a", headers=HEADERS).status_code == 200


class SomeAreOpen(Comments):
    def get_permissions(self):
        return [AllowAny()]


class ChecksNothing(Comments):
    def check_permissions(self, request):
        pass


@pytest.mark.parametrize("view", [SomeAreOpen, ChecksNothing])
@pytest.mark.parametrize("rules", [[], ["POST /c"], ["POST /**"]])
def test_a_view_that_may_ask_for_other_permissions_is_refused_by_the_gate(view, rules):
    with project([path("c", view.as_view())], CONFIG | {"RULES": rules}, REST_FRAMEWORK=REST):
        answer = APIClient().post("/c")
        assert (answer.status_code, ran) == (403, [])
        assert answer.json()["code"] == "ticket_missing"
        assert APIClient().post("/c", headers=HEADERS).json() == {"rule": "UNSAFE /c"}


def test_a_view_that_adds_permissions_to_those_it_lists_passes_after_the_gate():
    class Adds(Comments):
        def get_permissions(self):
            return [*super().get_permissions(), AllowAny()]

    with project([path("c", Adds.as_view())], CONFIG, REST_FRAMEWORK=REST):
        assert APIClient().post("/c").json()["code"] == "ticket_missing"
        assert APIClient().post("/c", headers=HEADERS).status_code == 200


def test_permissions_that_are_not_a_list_have_no_rule_and_do_not_stop_the_start():
    class ByRequest(Comments):
        @property
        def permission_classes(self):
            return [AllowAny] if self.request.method == "GET" else [HasCaptcha]

    class NoList(Comments):
        permission_classes = HasCaptcha

    urls = [path("by-request", ByRequest.as_view()), path("no-list", NoList.as_view())]
    with project(urls, CONFIG | {"RULES": ["POST /other"]}, REST_FRAMEWORK=REST):
        assert [rule.text for rule in current_guard().rules] == ["POST /other"]
        assert APIClient().get("/by-request").status_code == 200
        with pytest.raises(CaptchaRequired):
            APIClient().post("/by-request")


class Text(Serializer):
    text = CharField()


class Notes(CreateAPIView):
    permission_classes = (HasCaptcha,)
    renderer_classes = (BrowsableAPIRenderer,)
    serializer_class = Text

    def get(self, request):
        return run(request)


def test_the_page_of_a_view_is_shown_without_its_form():
    templates = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    more = {"INSTALLED_APPS": ["rest_framework"], "TEMPLATES": [templates], "STATIC_URL": "/s/"}
    with project([path("notes", Notes.as_view())], CONFIG, REST_FRAMEWORK=REST, **more):
        answer = APIClient().get("/notes", headers={"Accept": "text/html"})
    assert answer.status_code == 200
    assert b'method="POST"' not in answer.content


def test_a_permission_that_the_gate_does_not_know_of_fails_closed():
    with api():
        client = APIClient(raise_request_exception=False)
        assert client.post("/dynamic", headers=HEADERS).status_code == 500
        with pytest.raises(CaptchaRequired):
            APIClient().post("/dynamic", headers=HEADERS)
    assert ran == []


def options(app, target, headers):
    exchange = Exchange("OPTIONS", target, headers=headers)
    return call_wsgi(app, environ_of(exchange))


def test_a_preflight_is_answered_and_runs_no_handler():
    with api():
        status, _, body = options(WSGIHandler(), "/comments", tuple(PREFLIGHT.items()))
        assert (status, ran) == (200, [])
        assert b"parses" in body
        assert APIClient().options("/comments").status_code == 403


def test_a_preflight_does_not_pass_for_another_method():
    with project(URLS, CONFIG, ["rewrites"], REST_FRAMEWORK=REST):
        headers = (*PREFLIGHT.items(), ("X-Method", "POST"))
        assert options(WSGIHandler(), "/comments", headers)[0] == 403
    assert ran == []
