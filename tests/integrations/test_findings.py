"""What a check finds: routes compared with rules, through the guard's own matcher."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from warnings import catch_warnings

import pytest
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, WebSocketRoute

from tcaptcha_middleware import (
    ConfigurationError,
    Guard,
    Rule,
    TCaptchaMiddleware,
    TCaptchaWSGIMiddleware,
)
from tcaptcha_middleware.findings import Finding
from tcaptcha_middleware.integrations import fastapi as fastapi_integration
from tcaptcha_middleware.integrations import flask as flask_integration
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.testing import FakeVerifier


def page(_):
    raise AssertionError("a check calls no handler")


def app_of(*texts):
    """Return an application with routes such as "POST /login", "/any" or "WEBSOCKET /ws"."""
    return Starlette(routes=[route_of(text) for text in texts])


def route_of(text):
    methods, _, path = text.rpartition(" ")
    if methods == "WEBSOCKET":
        return WebSocketRoute(path, page)
    if not methods:
        return Route(path, PlainTextResponse())
    return Route(path, page, methods=methods.split(","))


def guard_of(*rules, **settings):
    return Guard(rules or ["POST /login"], FakeVerifier(), **settings)


def only(rules, route, **settings):
    """Return what is found for one route, without dead rules."""
    findings = guard_of(*rules, **settings).covers(app_of(route))
    (finding,) = [finding for finding in findings if finding.status != "dead"]
    return finding


@pytest.mark.parametrize(
    ("rules", "route", "status", "detail"),
    [
        (["POST /login"], "POST /login", "covered", ""),
        (["POST /login"], "POST /login/", "covered", ""),
        (["/login"], "GET /login", "covered", ""),
        (["UNSAFE /login"], "/login", "covered", ""),
        (["/admin/**"], "/admin/{page:path}", "covered", ""),
        (["POST /users/{x}"], "POST /users/{id:int}", "covered", ""),
        (["/ws"], "WEBSOCKET /ws", "covered", ""),
        # GET shows the form.
        (["POST /login"], "GET,POST /login", "covered", ""),
        (["GET /login"], "GET,POST /login", "partly", "not POST"),
        (["POST /login"], "POST,PUT /login", "partly", "not PUT"),
        (["POST /login"], "/login", "partly", "not CONNECT, DELETE, OPTIONS and others"),
        (["POST /a/{x}"], "POST /a/{rest:path}", "partly", "not /a/value/value"),
        (["POST /users/me"], "POST /users/{id}", "partly", "not /users/value"),
        (["POST /a/{x}/b/**"], "POST /a/{rest:path}", "partly", "not /a/value"),
        (["POST /other"], "POST /login", "open", ""),
        (["POST /login"], "WEBSOCKET /ws", "open", ""),
        (["POST /login"], "GET /login", "uncovered", ""),
        (["POST /login"], "POST /search", "uncovered", ""),
    ],
)
def test_each_route_has_a_status(rules, route, status, detail):
    finding = only(rules, route)
    assert (finding.status, finding.detail) == (status, detail)


@pytest.mark.parametrize(
    "path",
    [
        *("/login", "/user-login", "/userLogin", "/signIn", "/log_in", "/sign-up", "/register"),
        *("/password/reset", "/otp", "/sms", "/sendSms", "/sms-codes", "/verifyCode", "/token"),
        *("/invite", "/invitations", "/posts/{id}/comments", "/orders", "/pay", "/payments"),
        *("/checkout", "/sign_ups", "/log-in-with-code"),
    ],
)
def test_a_path_that_robots_abuse_is_open(path):
    assert only(["POST /x"], f"POST {path}").status == "open"


@pytest.mark.parametrize(
    "path",
    [
        *("/denglu", "/zhuce", "/mima", "/yanzhengma", "/yzm", "/duanxin", "/yaoqing"),
        *("/pinglun", "/liuyan", "/huifu", "/xiadan", "/dingdan", "/goumai", "/zhifu"),
        *("/chongzhi", "/tixian", "/zhuanzhang", "/duihuan", "/tijiao", "/zhaohui"),
        *("/yonghudenglu", "/zhifubao", "/yaoqingma", "/xiugaimima", "/mimadenglu", "/sendyzm"),
        *("/userDenglu", "/dengLu", "/xiu-gai-mi-ma", "/Xiugai_MiMa", "/faSongYanZhengMa"),
    ],
)
def test_a_path_in_pinyin_that_robots_abuse_is_open(path):
    assert only(["POST /x"], f"POST {path}").status == "open"


@pytest.mark.parametrize(
    "path",
    [
        *("/search", "/display", "/decode", "/disorder", "/users/{token}", "/logout"),
        *("/zoomimage", "/customImage", "/pyzmq", "/semi-manual", "/wedding-dance"),
        *("/shopping-lunch", "/mi-market", "/blog-info", "/catalogIndex"),
        *("/designing", "/assigning", "/design-insights"),
    ],
)
def test_other_paths_are_uncovered(path):
    assert only(["POST /x"], f"POST {path}").status == "uncovered"


@pytest.mark.parametrize(
    "path",
    [
        *("/sms", "/otp", "/send/code", "/yanzhengma", "/duanxin"),
        *("/getyzm", "/yanZhengMa", "/fa-duan-xin"),
    ],
)
def test_what_sends_a_message_is_open_for_get_too(path):
    assert only(["POST /x"], f"GET {path}").status == "open"
    assert only(["POST /x"], f"GET {path}/orders").status == "open"
    assert only(["POST /x"], "GET /orders").status == "uncovered"


def test_the_rules_that_cover_a_route_are_named():
    rules = [Rule("POST /login", name="login"), "PUT /login"]
    assert only(rules, "POST,PUT /login").rule == "login, PUT /login"


def test_rules_of_which_none_suffices_for_all_cover_a_route():
    rules = [Rule("POST /a", verifier=FakeVerifier()), Rule("/A", verifier=FakeVerifier())]
    finding = only(rules, "POST /A")
    assert (finding.status, finding.rule) == ("covered", "POST /a, /A")


def test_an_exempt_route_is_not_open():
    finding = only(["/api/**"], "POST /api/login", exempt=["POST /api/login"])
    assert (finding.status, finding.detail) == ("uncovered", "exempt: POST /api/login")


@pytest.mark.parametrize("exempt", ["POST /login", "UNSAFE /login", "/login"])
def test_a_form_of_which_the_submission_is_exempt_is_not_open(exempt):
    finding = only(["/api/**"], "GET,POST /login", exempt=[exempt])
    assert (finding.status, finding.detail) == ("uncovered", f"exempt: {exempt}")


def test_a_route_without_methods_is_not_exempt():
    class Nothing(HTTPEndpoint): ...

    app = Starlette(routes=[route_of("POST /login"), Route("/nothing", Nothing)])
    finding = guard_of().covers(app)[1]
    assert (finding.status, finding.detail) == ("uncovered", "")


@pytest.mark.parametrize(
    ("rules", "route", "exempt", "status", "detail"),
    [
        (["/login"], "POST,PUT /login", ["POST /login"], "covered", "exempt: POST /login"),
        (["/login"], "GET,POST /login", ["GET /login"], "covered", ""),
        (["/a/**"], "POST /a/{x}", ["POST /a/value"], "covered", "exempt: POST /a/value"),
        # No example of the route is exempt.
        (["/a/**"], "POST /a/{x}", ["/a/me", "/b"], "covered", "exempt: /a/me"),
        (["/a/**"], "POST /a/{x}", ["/b", "/c"], "covered", ""),
        (
            ["POST /a/{x}"],
            "POST,PUT /a/{x}",
            ["PUT /a/me", "POST /a/you"],
            "partly",
            "not PUT; exempt: PUT /a/me, POST /a/you",
        ),
        (["POST /x"], "POST,PUT /login", ["POST /login"], "open", "exempt: POST /login"),
    ],
)
def test_exemptions_of_some_requests_for_a_route_are_named(
    rules, route, exempt, status, detail
):
    finding = only(rules, route, exempt=exempt)
    assert (finding.status, finding.detail) == (status, detail)


@pytest.mark.parametrize(
    ("rules", "exempt", "detail"),
    [
        (["POST /b/x", "/b/y"], ["/b/y", "/c"], "all that it matches is exempt: /b/y"),
        (
            ["POST /b/x", "/b/**"],
            ["POST /b/y"],
            "what no earlier rule judges is exempt: POST /b/y",
        ),
        (["/b/**", "/b/y"], ["/c"], "an earlier rule judges all that it matches"),
    ],
)
def test_a_rule_that_matches_only_what_is_exempt_is_dead_for_that_reason(rules, exempt, detail):
    app = app_of("POST /b/x", "POST /b/y")
    finding = Guard(rules, FakeVerifier(), exempt=exempt).covers(app)[-1]
    assert (finding.status, finding.rule, finding.detail) == ("dead", rules[-1], detail)


def test_an_exemption_below_the_mount_of_a_guard_is_named():
    guard = guard_of("/**", exempt=["POST /hook"])
    app = Starlette(
        routes=[Mount("/shop", TCaptchaMiddleware(app_of("POST /hook", "POST /pay"), guard))]
    )
    assert [finding.detail for finding in check(app)] == ["exempt: POST /hook", ""]


@pytest.mark.parametrize(
    ("rules", "status", "rule"),
    [
        (["/raw/**"], "covered", "/raw/**"),
        (["POST /raw/login"], "opaque", "POST /raw/login"),
        (["POST /login"], "opaque", ""),
    ],
)
def test_a_mounted_callable_is_opaque_unless_it_is_covered_as_a_whole(rules, status, rule):
    app = Starlette(routes=[route_of("POST /login"), Mount("/raw", PlainTextResponse())])
    finding = guard_of("POST /login", *set(rules) - {"POST /login"}).covers(app)[1]
    assert (finding.status, finding.rule, str(finding)) == (status, rule, "/raw/{path:path}")


def test_a_path_without_an_example_is_opaque():
    app = Flask("app", static_folder=None)
    app.add_url_rule("/login", "login", page, methods=["POST"])
    app.add_url_rule("/<string(length=70):key>", "key", page)
    finding = guard_of().covers(app)[1]
    assert (finding.status, finding.detail) == ("opaque", "no example of this path was found")


def test_a_rule_for_a_subtree_that_an_earlier_one_judges_is_dead_for_that_reason():
    app = FastAPI(openapi_url=None)
    app.post("/api/{number:int}")(lambda number: number)
    app.post("/api/only")(lambda: "only")
    rules = ["UNSAFE /api/**", "POST /api/**", "POST /api/{x}"]
    (*_, subtree, variable) = Guard(rules, FakeVerifier()).covers(app)
    assert subtree.detail == variable.detail == "an earlier rule judges all that it matches"


@pytest.mark.parametrize(
    ("rule", "text", "detail"),
    [
        ("POST /logn", "POST /logn", 'did you mean "POST /login"?'),
        ("UNSAFE /files/x/{y}", "UNSAFE /files/x/{x}", "/files/{name:path} answers only GET"),
        ("/file", "/file", 'did you mean "/files/**"?'),
        ("PUT /login", "PUT /login", "/login answers only POST"),
        ("GET /login/{x}/y", "GET /login/{x}/y", "no route is like it"),
        ("POST /login/**", "POST /login/**", "an earlier rule judges all that it matches"),
    ],
)
def test_a_rule_that_matches_no_route_is_dead(rule, text, detail):
    guard = guard_of("POST /login", rule)
    findings = guard.covers(app_of("POST /login", "GET /files/{name:path}"))
    dead = [finding for finding in findings if finding.status == "dead"]
    assert [(str(finding), finding.rule, finding.detail) for finding in dead] == [
        (text, rule, detail)
    ]


@pytest.mark.parametrize(
    ("routes", "meant"),
    [
        (["POST /sign", "POST /signin"], "POST /signin"),
        (
            ["POST /signin", "POST /sing-in"],
            "POST /sing-in",
        ),  # less like it, and without a rule
        (["POST /sign"], "POST /sign"),
    ],
)
def test_a_dead_rule_probably_means_a_route_without_a_rule(routes, meant):
    guard = guard_of(routes[0], "POST /sigin")
    (dead,) = [f for f in guard.covers(app_of(*routes)) if f.status == "dead"]
    assert dead.detail == f'did you mean "{meant}"?'


def test_a_route_below_the_page_is_shadowed():
    app = app_of("POST /login", "GET /tcaptcha/settings.json", "GET /{rest:path}")
    findings = guard_of(page="/tcaptcha").covers(app)
    (shadowed,) = [finding for finding in findings if finding.status == "shadowed"]
    assert str(shadowed) == "GET /tcaptcha/settings.json"
    assert shadowed.detail.startswith("the page answers, not the route /tcaptcha/settings.json")


def test_a_route_of_a_parameter_below_the_page_shadows_both_paths():
    app = app_of("POST /login", *["GET /tcaptcha/{name}"] * 2, "GET /tcaptcha/other")
    findings = guard_of(page="/tcaptcha").covers(app)
    shadowed = [finding.path for finding in findings if finding.status == "shadowed"]
    assert shadowed == ["/tcaptcha/tcaptcha.js", "/tcaptcha/settings.json"]


# -- mounts ------


@pytest.mark.parametrize("rule", ["POST /login", "POST /shop/login"])
def test_a_guard_inside_a_mount_sees_both_paths(rule):
    shop = TCaptchaMiddleware(app_of("POST /login"), guard_of(rule))
    app = Starlette(routes=[route_of("POST /login"), Mount("/shop", shop)])
    assert [(str(f), f.status) for f in check(app)] == [
        ("POST /login", "open"),
        ("POST /shop/login", "covered"),
    ]


def test_the_page_of_a_guard_inside_a_mount_is_below_the_mount():
    guard = guard_of(page="/tcaptcha")
    inner = app_of("POST /login", "GET /tcaptcha/tcaptcha.js")
    app = Starlette(routes=[Mount("/shop", TCaptchaMiddleware(inner, guard))])
    assert [f.path for f in check(app) if f.status == "shadowed"] == [
        "/shop/tcaptcha/tcaptcha.js"
    ]


@pytest.mark.parametrize("rule", ["POST /login", "POST /api/login", "POST /api/users/me"])
@pytest.mark.parametrize("setting", ["root_path", "mounted_at"])
def test_the_mount_that_only_the_application_knows_counts(rule, setting):
    root_path = "/api" if setting == "root_path" else ""
    with catch_warnings(action="ignore"):  # FastAPI deprecates `root_path`
        app = FastAPI(openapi_url=None, root_path=root_path)
    app.post("/login")(page)
    app.post("/users/{id}")(page)
    findings = guard_of(rule, mounted_at="" if root_path else "/api").covers(app)
    assert [finding.status for finding in findings if finding.rule] in (["covered"], ["partly"])


# -- the guard and the application ------


def test_a_guard_need_not_be_around_the_application():
    guard, app = guard_of(), app_of("POST /login", "POST /pay")
    findings = guard.covers(app)
    assert [finding.status for finding in findings] == ["covered", "open"]
    assert findings == guard.covers(TCaptchaMiddleware(app, guard))
    assert findings == check(TCaptchaMiddleware(app, guard))


def test_every_guard_around_an_application_counts():
    app = Flask("app", static_folder=None)
    app.add_url_rule("/login", "login", page, methods=["POST"])
    app.add_url_rule("/pay", "pay", page, methods=["POST"])
    inner = TCaptchaWSGIMiddleware(app, guard_of("POST /login"))
    outer = TCaptchaWSGIMiddleware(inner, guard_of("POST /pay", "POST /pai"))
    assert [(finding.rule, finding.status) for finding in check(outer)] == [
        ("POST /login", "covered"),
        ("POST /pay", "covered"),
        ("POST /pai", "dead"),
    ]


@pytest.mark.parametrize(
    ("app", "message"),
    [
        (Starlette(), "this Starlette has no routes: name the application"),
        (page, "no route of this function can be read: function is not .* a factory as"),
        (Starlette(routes=[Mount("/x", PlainTextResponse())]), "no route of this Starlette"),
        (app_of("POST /login"), "no guard around this Starlette: name the object"),
    ],
    ids=["no routes", "no application", "opaque routes only", "no guard"],
)
def test_what_cannot_be_checked_is_an_error_with_the_fix(app, message):
    with pytest.raises(ConfigurationError, match=message):
        check(app)


def protected_fastapi(*paths, guard=None):
    app = FastAPI(openapi_url=None)
    if guard is not None:
        app.add_middleware(TCaptchaMiddleware, guard=guard)
    guard = fastapi_integration.protect(app, FakeVerifier())
    for path in paths:
        app.post(path)(page)
    return app, guard


def protected_flask(*paths):
    app = Flask("app", static_folder=None)
    flask_integration.TCaptcha(app, FakeVerifier())
    for path in paths:
        app.post(path)(page)
    return app, app.extensions["tcaptcha"]


@pytest.mark.parametrize("protected", [protected_fastapi, protected_flask])
def test_an_application_without_marks_and_rules_is_an_error_with_handlers_to_mark(protected):
    app, guard = protected("/search", "/login", "/pay", "/sms", "/orders")
    message = (
        "no handler is marked, and there are no rules: nothing needs a captcha. Mark each "
        "handler that robots abuse, such as that of POST /login, POST /pay, POST /sms"
    )
    for findings in (lambda: guard.covers(app), lambda: check(app)):
        with pytest.raises(ConfigurationError) as caught:
            findings()
        assert str(caught.value) == message
    app, guard = protected("/search")
    with pytest.raises(ConfigurationError, match=r"handler that robots abuse$"):
        guard.covers(app)


def test_beside_another_guard_no_mark_is_needed():
    app, _ = protected_fastapi("/login", guard=guard_of())
    assert [(finding.status, finding.rule) for finding in check(app)] == [
        ("covered", "POST /login")
    ]


def test_a_finding_is_a_frozen_value():
    finding = Finding("open", ("GET", "POST"), "/a")
    assert (str(finding), finding.needs_attention) == ("GET,POST /a", True)
    assert not Finding("opaque", (), "/a").needs_attention
    with pytest.raises(FrozenInstanceError):
        finding.status = "covered"
