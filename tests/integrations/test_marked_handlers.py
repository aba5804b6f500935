"""What holds for marked handlers in every framework that has an integration for them."""

from __future__ import annotations

import asyncio

import fastapi
import flask
import litestar
import pytest
import quart
from fastapi.testclient import TestClient
from fresh_pairs import pair
from starlette.applications import Starlette
from starlette.requests import Request  # noqa: TC002  FastAPI reads the annotation
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tcaptcha_middleware import ConfigurationError, OutageError, Rule, get_decision
from tcaptcha_middleware.integrations.fastapi import protect, solved
from tcaptcha_middleware.integrations.flask import TCaptcha
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
from tcaptcha_middleware.integrations.quart import TCaptcha as QuartTCaptcha
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.integrations.starlette import protect as protect_starlette
from tcaptcha_middleware.integrations.starlette import required
from tcaptcha_middleware.testing import FakeVerifier, override


def rule_of(request):
    decision = get_decision(request)
    return decision.rule if decision else "no rule"


class Site:
    """An application whose handlers answer with the rule that judged the request.

    `gate` may be called once. `add` takes the settings of the mark, or None for no mark.
    """

    def __init__(self):
        self.ran = []
        self.start()

    def send(self, path, headers=(), method="POST"):
        client = TestClient(self.app, raise_server_exceptions=False)
        answer = client.request(method, path, headers=dict(headers))
        return answer.status_code, answer.text

    def posted(self, path):
        """Return the status without a ticket; and with one the text, or also the status."""
        status, _ = self.send(path)
        with_pair, text = self.send(path, pair())
        return status, text if with_pair == 200 else with_pair

    def answer(self, request):
        self.ran.append(request)
        return rule_of(request)


class InStarlette(Site):
    def start(self):
        self.app = Starlette()

    def gate(self, verifier, **settings):
        self.guard = protect_starlette(self.app, verifier, **settings)

    def add(self, path, mark=None, methods=("POST",)):
        def view(request):
            return PlainTextResponse(self.answer(request))

        view = view if mark is None else required(**mark)(view)
        self.app.routes.append(Route(path, view, methods=methods))


class InFastAPI(Site):
    def start(self):
        self.app = fastapi.FastAPI(openapi_url=None)

    def gate(self, verifier, **settings):
        self.guard = protect(self.app, verifier, **settings)

    def add(self, path, mark=None):
        async def view(request: Request):
            return PlainTextResponse(self.answer(request))

        marks = [] if mark is None else [fastapi.Depends(solved(**mark))]
        self.app.post(path, dependencies=marks)(view)


class InFlask(Site):
    request = flask.request

    def start(self):
        self.app, self.captcha = flask.Flask("app", static_folder=None), TCaptcha()

    def gate(self, verifier, **settings):
        type(self.captcha)(self.app, verifier, **settings)
        self.guard = self.app.extensions["tcaptcha"]

    def add(self, path, mark=None, methods=("POST",)):
        def view():
            return self.answer(self.request)

        view = view if mark is None else self.captcha.required(**mark)(view)
        self.app._got_first_request = False
        self.app.add_url_rule(path, path.replace(".", ""), view, methods=methods)

    def send(self, path, headers=(), method="POST"):
        answer = self.app.test_client().open(path, method=method, headers=dict(headers))
        return answer.status_code, answer.text


class InQuart(InFlask):
    request = quart.request

    def start(self):
        self.app, self.captcha = quart.Quart("app", static_folder=None), QuartTCaptcha()

    def send(self, path, headers=(), method="POST"):
        async def send():
            client = self.app.test_client()
            answer = await client.open(path, method=method, headers=dict(headers))
            return answer.status_code, await answer.get_data(as_text=True)

        return asyncio.run(send())


class InLitestar(Site):
    def start(self, *plugins):
        self.plugins = plugins
        self.app = litestar.Litestar(
            [home], openapi_config=None, logging_config=None, plugins=plugins
        )

    def gate(self, verifier, **settings):
        self.start(*self.plugins, TCaptchaPlugin(verifier=verifier, **settings))
        self.guard = self.plugins[0].guard

    def add(self, path, mark=None, methods=("POST",)):
        async def view(request: litestar.Request) -> str:
            return self.answer(request)

        if not self.plugins:
            self.gate(FakeVerifier())
            self.app.asgi_handler = self.app.asgi_router._router
        route = litestar.route(
            path,
            http_method=list(methods),
            status_code=200,
            media_type="text/plain",
            opt={} if mark is None else {"tcaptcha": mark},
        )
        self.app.register(route(view))


@litestar.get("/")
async def home() -> str:
    return "home"


@pytest.fixture(params=[InFastAPI, InFlask, InLitestar, InQuart, InStarlette])
def bare(request):
    """Return an application without the gate."""
    return request.param()


@pytest.fixture
def site(bare):
    bare.gate(FakeVerifier())
    return bare


def test_a_marked_handler_runs_only_with_a_ticket_and_gets_the_decision(site):
    site.add("/login", {})
    site.add("/search")
    assert site.posted("/login") == (403, "POST /login")
    assert len(site.ran) == 1
    assert site.posted("/search") == (200, "no rule")


def test_a_mark_may_have_settings_and_a_verifier_of_its_own(site):
    site.add("/observed", {"mode": "observe"})
    site.add("/other", {"verifier": FakeVerifier(8)})
    assert site.posted("/observed") == (200, "POST /observed")
    assert site.posted("/other") == (403, 403)


@pytest.mark.parametrize("bare", [InFlask, InLitestar, InQuart, InStarlette], indirect=True)
def test_a_mark_may_be_for_some_methods_alone(site):
    site.add("/form", {"methods": ["POST"]}, ["GET", "POST"])
    assert site.send("/form", method="GET") == (200, "no rule")
    assert site.posted("/form") == (403, "POST /form")


def test_rules_are_for_handlers_without_a_mark(bare):
    bare.gate(FakeVerifier(), rules=[Rule("/admin/**"), "POST /search"], page="/tcaptcha")
    for path in ("/admin/users", "/search", "/free"):
        bare.add(path)
    assert bare.posted("/admin/users") == (403, "/admin/**")
    assert bare.posted("/search") == (403, "POST /search")
    assert bare.posted("/free") == (200, "no rule")
    assert bare.send("/tcaptcha/tcaptcha.js", method="GET")[0] == 200
    assert bare.guard.public_settings("POST /search")


def test_a_handler_that_is_added_after_a_request_is_gated_at_once(site):
    site.add("/login", {})
    assert site.posted("/login") == (403, "POST /login")
    site.add("/late", {})
    assert site.posted("/late") == (403, "POST /late")


def test_a_marked_handler_that_is_reached_without_the_gate_does_not_run(bare, caplog):
    bare.add("/login", {})
    assert bare.posted("/login") == (500, 500)
    assert bare.ran == []
    assert "needs a captcha: the gate is not in front of it" in caplog.text


def test_check_finds_the_rules_of_marked_handlers(site):
    site.add("/login", {})
    site.add("/signup")
    findings = {str(finding): finding.status for finding in check(site.app)}
    assert (findings["POST /login"], findings["POST /signup"]) == ("covered", "open")


def test_override_replaces_the_verifiers_of_marks_also_of_later_ones(bare):
    real = FakeVerifier(OutageError("the real service was called"))
    bare.gate(real)
    bare.add("/a", {})
    bare.add("/b", {"verifier": real, "max_score": 50})
    fake = FakeVerifier()
    assert bare.posted("/b") == (403, 503)
    with override(bare.guard, fake):
        bare.add("/late", {})
        assert [bare.posted(path) for path in ("/a", "/b", "/late")] == [
            (403, "POST /a"),
            (403, "POST /b"),
            (403, "POST /late"),
        ]
        assert bare.guard.match("POST", "/b").settings.max_score == 50
    assert [bare.posted(path) for path in ("/a", "/b", "/late")] == [(403, 503)] * 3
    assert len(fake.tickets) == 3


# -- errors ------


def test_an_application_has_one_gate(site):
    with pytest.raises(ConfigurationError, match=r"was called twice for|two TCaptchaPlugin"):
        site.gate(FakeVerifier())


def test_a_wrong_setting_is_an_error_at_once(bare):
    with pytest.raises(ConfigurationError, match="percent is 101"):
        bare.gate(FakeVerifier(), percent=101)
    with pytest.raises(ConfigurationError, match="percent is 101"):
        bare.add("/login", {"percent": 101})


def test_a_route_that_no_rule_can_express_is_an_error(site):
    site.add("/a;b", {})
    with pytest.raises(ConfigurationError, match=r"view.* is marked: rule 'POST /a;b' can"):
        site.guard.refresh()
