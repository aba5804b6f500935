"""Views of Flask and Quart that are marked with `captcha.required`, and their configuration."""

from __future__ import annotations

import asyncio
import threading
import time

import flask
import flask.views
import pytest
import quart
import quart.views
from fresh_pairs import pair
from quart.testing import WebsocketResponseError
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tcaptcha_middleware import CaptchaRequired, ConfigurationError, OutageError, Rule
from tcaptcha_middleware.integrations import marked_guard
from tcaptcha_middleware.integrations.flask import TCaptcha
from tcaptcha_middleware.integrations.quart import TCaptcha as QuartTCaptcha
from tcaptcha_middleware.testing import FakeVerifier, override

# -- both frameworks ------


class InFlask:
    module, views, extension = flask, flask.views, TCaptcha
    kind = flask.Flask

    @staticmethod
    def send(app, method, path, headers=()):
        answer = app.test_client().open(path, method=method, headers=dict(headers))
        return answer.status_code, answer.get_data(as_text=True)


class InQuart:
    module, views, extension = quart, quart.views, QuartTCaptcha
    kind = quart.Quart

    @staticmethod
    def send(app, method, path, headers=()):
        async def send():
            answer = await app.test_client().open(path, method=method, headers=dict(headers))
            return answer.status_code, await answer.get_data(as_text=True)

        return asyncio.run(send())


@pytest.fixture(params=[InFlask, InQuart])
def framework(request):
    return request.param


@pytest.fixture
def app(framework):
    return framework.kind("app", static_folder=None)


def posted(framework, app, path):
    """Return the status without a ticket, and the answer with one."""
    status, _ = framework.send(app, "POST", path)
    with_pair, text = framework.send(app, "POST", path, pair())
    return status, text if with_pair == 200 else with_pair


def test_a_marked_view_runs_only_with_a_ticket(framework, app):
    captcha = framework.extension(app, FakeVerifier())

    @app.post("/login/<int:number>")
    @captcha.required
    def login(number):
        return f"in {number}"

    @app.post("/async")
    @captcha.required
    async def awaited():
        return "in"

    @app.post("/search")
    def search():
        return "found"

    assert posted(framework, app, "/login/7") == (403, "in 7")
    assert posted(framework, app, "/async") == (403, "in")
    assert posted(framework, app, "/search") == (200, "found")


def test_views_of_a_blueprint_are_gated_in_every_application(framework):
    captcha = framework.extension(verifier=FakeVerifier())
    blueprint = framework.module.Blueprint("users", "users", url_prefix="/users")

    @blueprint.post("/login")
    @captcha.required
    def login():
        return "in"

    for _ in range(2):
        app = framework.kind("app", static_folder=None)
        captcha.init_app(app)
        app.register_blueprint(blueprint)
        assert posted(framework, app, "/users/login") == (403, "in")


def test_class_based_views_are_decorated_as_usual(framework, app):
    captcha = framework.extension(app, FakeVerifier())

    class Login(framework.views.MethodView):
        decorators = (captcha.required(methods=["UNSAFE"]),)

        def get(self):
            return "form"

        def post(self):
            return "in"

    app.add_url_rule("/login", view_func=Login.as_view("login"))
    assert framework.send(app, "GET", "/login") == (200, "form")
    assert posted(framework, app, "/login") == (403, "in")


def test_the_configuration_has_what_the_arguments_leave_out(framework, app):
    app.config["TCAPTCHA_VERIFIER"] = FakeVerifier()
    app.config["TCAPTCHA_RULES"] = ["POST /search"]
    app.config["TCAPTCHA_PAGE"] = "/tcaptcha"
    framework.extension(app)
    app.add_url_rule("/search", "search", lambda: "found", methods=["POST"])
    assert posted(framework, app, "/search") == (403, "found")
    assert framework.send(app, "GET", "/tcaptcha/tcaptcha.js")[0] == 200


def test_arguments_come_before_the_configuration(framework, app):
    app.config["TCAPTCHA_VERIFIER"] = FakeVerifier(8)
    app.config["TCAPTCHA_RULES"] = ["POST /search"]
    app.config["TCAPTCHA_PAGE"] = "/tcaptcha"
    framework.extension(app, FakeVerifier(), [Rule("POST /find")], page="/captcha")
    app.add_url_rule("/search", "search", lambda: "found", methods=["POST"])
    app.add_url_rule("/find", "find", lambda: "found", methods=["POST"])
    assert posted(framework, app, "/search") == (200, "found")
    assert posted(framework, app, "/find") == (403, "found")
    assert framework.send(app, "GET", "/captcha/tcaptcha.js")[0] == 200


@pytest.mark.parametrize("key", ["TCAPTCHA_RULE", "TCAPTCHA_CORS"])
def test_a_key_of_the_configuration_that_nothing_reads_is_refused(framework, app, key):
    app.config |= {key: ["POST /search"], "TCAPTCHA_VERIFIER": FakeVerifier()}
    with pytest.raises(ConfigurationError) as caught:
        framework.extension(app)
    assert str(caught.value) == (
        f"nothing reads app.config['{key}']: the keys are TCAPTCHA_VERIFIER, TCAPTCHA_RULES, "
        "TCAPTCHA_PAGE; pass other settings to TCaptcha(…)"
    )


def test_the_configuration_may_have_the_variables_of_the_environment(framework, app):
    app.config |= {"TCAPTCHA_APP_ID": "190000000", "TCAPTCHA_APP_SECRET_KEY": "secret"}
    framework.extension(app, FakeVerifier(), ["POST /search"])


def test_the_guard_of_an_application_is_in_its_extensions(framework, app):
    framework.extension(app, FakeVerifier(), ["POST /search"])
    assert app.extensions["tcaptcha"].public_settings("POST /search")


def test_there_has_to_be_a_verifier(framework, app):
    with pytest.raises(ConfigurationError, match="TCaptcha needs a verifier: pass one"):
        framework.extension(app)


def test_a_decorator_above_that_of_the_route_is_an_error(framework, app):
    captcha = framework.extension(app, FakeVerifier())

    @captcha.required
    @app.post("/login")
    def login():
        return "in"

    app.testing = True
    with pytest.raises(ConfigurationError, match=r"the route /login calls .*login"):
        framework.send(app, "POST", "/login")


# -- Flask ------


def test_an_application_that_flask_dispatches_to_is_gated():
    captcha = TCaptcha(verifier=FakeVerifier())
    inner, outer = flask.Flask("inner"), flask.Flask("outer")
    inner.add_url_rule("/login", "login", captcha.required(lambda: "in"), methods=["POST"])
    outer.wsgi_app = DispatcherMiddleware(outer.wsgi_app, {"/mount": inner})
    captcha.init_app(outer)
    assert posted(InFlask, outer, "/mount/login") == (403, "in")


def test_a_method_that_is_overridden_behind_the_gate_is_locked(caplog):
    app = flask.Flask("app")
    inner = app.wsgi_app

    def overriding(environ, start_response):
        return inner(environ | {"REQUEST_METHOD": "POST"}, start_response)

    app.wsgi_app = overriding
    captcha = TCaptcha(app, FakeVerifier())
    view = captcha.required(methods=["POST"])(lambda: "in")
    app.add_url_rule("/login", "login", view, methods=["GET", "POST"])
    assert InFlask.send(app, "POST", "/login", pair()) == (200, "in")
    assert InFlask.send(app, "GET", "/login")[0] == 500
    assert "the gate saw another path or method" in caplog.text


# -- Quart ------


def test_the_handshake_of_a_marked_websocket_needs_a_ticket():
    app = quart.Quart("app")
    captcha = QuartTCaptcha(app, FakeVerifier())

    @app.websocket("/socket")
    @captcha.required
    async def socket():
        await quart.websocket.send("hello")

    async def converse():
        client = app.test_client()
        async with client.websocket("/socket", headers=pair()) as websocket:
            assert await websocket.receive() == "hello"
        with pytest.raises(WebsocketResponseError):
            async with client.websocket("/socket") as websocket:
                await websocket.receive()

    asyncio.run(converse())


# -- routes that are added after the routes were read ------


@pytest.mark.parametrize("kind", [InFlask, InQuart])
def test_a_second_url_of_a_view_is_protected_at_once(kind):
    app = kind.kind("app")
    captcha = kind.extension(app, FakeVerifier())
    view = captcha.required(lambda: "hello")
    app.add_url_rule("/login", "login", view, methods=["POST"])
    assert app.extensions["tcaptcha"].match("POST", "/signin") is None
    app.add_url_rule("/signin", "login", view, methods=["POST"])
    assert kind.send(app, "POST", "/signin")[0] == 403
    assert kind.send(app, "POST", "/signin", pair()) == (200, "hello")


@pytest.mark.parametrize("kind", [InFlask, InQuart])
def test_a_view_that_is_set_for_an_endpoint_later_is_protected_at_once(kind):
    app = kind.kind("app")
    captcha = kind.extension(app, FakeVerifier())
    app.add_url_rule("/login", "login", methods=["POST"])
    assert app.extensions["tcaptcha"].match("POST", "/login") is None
    app.endpoint("login")(captcha.required(lambda: "hello"))
    assert kind.send(app, "POST", "/login")[0] == 403


def test_threads_that_wait_for_the_routes_do_not_warn_again(caplog, monkeypatch):
    app = flask.Flask("app")
    TCaptcha(app, FakeVerifier())
    guard, arrived = app.extensions["tcaptcha"], threading.Barrier(3)

    def slow(*_):
        arrived.wait(5)
        time.sleep(0.05)  # the others wait for the lock
        return []

    monkeypatch.setattr(marked_guard, "marked_rules", slow)
    others = [threading.Thread(target=lambda: (arrived.wait(5), guard.refresh())) for _ in "ab"]
    for thread in others:
        thread.start()
    guard.refresh()
    for thread in others:
        thread.join()
    assert len([r for r in caplog.records if "no handler is marked" in r.getMessage()]) == 1


def test_the_second_lock_names_what_may_be_wrong_if_no_rule_judged_the_request():
    app = flask.Flask("app")
    captcha = TCaptcha(app, FakeVerifier())
    view = captcha.required(lambda: "hello")
    app.add_url_rule("/other", "other", lambda: f"{view()}", methods=["POST"])
    problem = "the route was added just now, or no rule was derived for its route"
    app.testing = True
    with pytest.raises(CaptchaRequired, match=problem):
        InFlask.send(app, "POST", "/other")


class Closable(FakeVerifier):
    closed = 0

    def close(self):
        self.closed += 1

    async def aclose(self):
        self.close()


@pytest.mark.parametrize("is_async", [False, True])
def test_the_verifier_of_a_mark_is_closed_if_its_route_was_removed(is_async):
    app, own, shared = flask.Flask("app"), Closable(), Closable()
    captcha = TCaptcha(app, shared)
    app.add_url_rule("/a", "a", captcha.required(verifier=own)(lambda: ""), methods=["POST"])
    guard = app.extensions["tcaptcha"]
    assert guard.match("POST", "/a").verifier is own
    app.view_functions["a"] = captcha.required(lambda: "")
    app.view_functions["b"] = lambda: ""
    assert guard.match("POST", "/a").verifier is shared
    asyncio.run(guard.aclose()) if is_async else guard.close()
    assert (own.closed, shared.closed) == (1, 1)


# -- tests of an application ------


def test_after_an_inner_override_the_outer_one_lasts_also_for_new_views():
    app, real = flask.Flask("app"), FakeVerifier(OutageError("the real service was called"))
    captcha = TCaptcha(app, real)
    app.post("/a")(captcha.required(lambda: "hello"))
    guard, outer, inner = app.extensions["tcaptcha"], FakeVerifier(), FakeVerifier()
    with override(guard, outer):
        with override(guard, inner):
            assert InFlask.send(app, "POST", "/a", pair()) == (200, "hello")
        app._got_first_request = False
        app.post("/b", endpoint="b")(captcha.required(lambda: "hello"))
        assert InFlask.send(app, "POST", "/a", pair()) == (200, "hello")
        assert InFlask.send(app, "POST", "/b", pair()) == (200, "hello")
    assert (len(inner.tickets), len(outer.tickets), len(real.tickets)) == (1, 2, 0)
    assert InFlask.send(app, "POST", "/b", pair())[0] == 503


def test_a_verifier_that_the_settings_cannot_work_with_replaces_nothing():
    app, real = flask.Flask("app"), FakeVerifier()
    captcha = TCaptcha(app, real)
    guard = app.extensions["tcaptcha"]
    with pytest.raises(ConfigurationError), override(guard, object()):
        pass
    app.post("/a")(captcha.required(lambda: "hello"))
    assert InFlask.send(app, "POST", "/a", pair()) == (200, "hello")


def test_the_probes_for_a_verifier_end_with_the_application_if_its_route_was_removed():
    app, own = flask.Flask("app"), FakeVerifier()
    captcha = TCaptcha(app, FakeVerifier())
    app.add_url_rule("/a", "a", captcha.required(verifier=own)(lambda: ""), methods=["POST"])
    guard, closed = app.extensions["tcaptcha"], []
    guard.match("POST", "/a").health.close = lambda: closed.append(own)
    app.view_functions["a"] = captcha.required(lambda: "")
    app.view_functions["b"] = lambda: ""
    assert guard.match("POST", "/a").verifier is not own
    guard.close()
    assert closed == [own]


def test_what_a_replaced_verifier_has_learned_does_not_stay():
    app, fake = flask.Flask("app"), FakeVerifier()
    captcha = TCaptcha(app, FakeVerifier())
    app.post("/a")(captcha.required(lambda: "hello"))
    guard = app.extensions["tcaptcha"]
    with override(guard, fake):
        first = guard.match("POST", "/a").health
    with override(guard, fake):
        assert guard.match("POST", "/a").health is not first


def test_a_verifier_that_was_used_in_a_test_is_not_closed_with_the_application():
    app, real, fake = flask.Flask("app"), Closable(), Closable()
    TCaptcha(app, real)
    guard = app.extensions["tcaptcha"]
    with override(guard, fake):
        pass
    guard.close()
    assert (real.closed, fake.closed) == (1, 0)
