"""The plugin for Litestar: which requests it sees, and what it adds."""

from __future__ import annotations

import json
from typing import Any

import litestar
import pytest
from adapters import Exchange, call_asgi, messages_of, scope_of
from gated_sites import pair, pool, serve, site
from litestar import Litestar, asgi, get, post, websocket
from litestar.config.cors import CORSConfig
from litestar.openapi.config import OpenAPIConfig
from litestar.testing import TestClient
from openapi_spec_validator import validate
from target_forms import CORPUS, HANDSHAKES, PROTECTED, Form, forms, pairs

from tcaptcha_middleware import ConfigurationError, Guard, get_decision
from tcaptcha_middleware.integrations.litestar import TCaptchaPlugin
from tcaptcha_middleware.integrations.routes.check import check
from tcaptcha_middleware.integrations.routes.reading import read
from tcaptcha_middleware.testing import FakeVerifier

PAIR = {"X-Captcha-Ticket": "t", "X-Captcha-Randstr": "r"}


@post("/login", status_code=200)
async def login(request: litestar.Request) -> dict[str, Any]:
    decision = get_decision(request)
    return {"rule": decision and decision.rule, "body": (await request.body()).decode()}


@get("/free")
async def free() -> str:
    return "free"


@get("/users/{number:int}")
async def user(request: litestar.Request) -> int:
    return request.path_params["number"]


@websocket("/socket")
async def socket(socket: litestar.WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


class Verifier(FakeVerifier):
    """Reports that it was closed."""

    closed = 0

    async def aclose(self):
        self.closed += 1


RULES = ["POST /login", "GET /socket", "POST /mount/login", "POST /nowhere"]


def guard_of(*rules, verifier=None, **settings):
    return Guard(rules or RULES, verifier or Verifier(), page="/tcaptcha", **settings)


def app_of(*guards, **settings):
    mount = asgi("/mount", is_mount=True, copy_scope=True)(mounted)
    handlers = [login, free, user, socket, mount]
    return Litestar(handlers, plugins=[TCaptchaPlugin(guard) for guard in guards], **settings)


@pytest.fixture
def client():
    with TestClient(app_of(guard_of())) as client:
        yield client


def test_its_routes_are_read_in_one_order():
    paths = [str(route.path) for route in read(Litestar([]))]
    assert len(paths) > 2
    assert paths == sorted(paths)


def test_a_protected_handler_needs_a_ticket(client):
    refused = client.post("/login", content="hello")
    allowed = client.post("/login", content="hello", headers=PAIR)
    assert (refused.status_code, refused.json()["code"]) == (403, "ticket_missing")
    assert allowed.json() == {"rule": "POST /login", "body": "hello"}
    assert client.get("/free").text == "free"


def test_it_works_without_a_lifespan():
    client = TestClient(app_of(guard_of()))
    assert client.post("/login").status_code == 403
    assert client.post("/login", headers=PAIR).status_code == 200


def test_the_page_is_served(client):
    module = client.get("/tcaptcha/tcaptcha.js")
    assert (module.status_code, module.headers["Content-Type"][:15]) == (200, "text/javascript")
    assert client.get("/tcaptcha/settings.json").json()["appId"] == "190000000"
    assert client.get("/tcaptcha/other").status_code == 404


def test_paths_without_a_route_are_answered_by_the_gate_or_by_litestar(client):
    assert client.post("/nowhere").status_code == 403
    assert client.post("/nowhere", headers=PAIR).status_code == 404
    assert client.get("/nowhere").status_code == 404
    assert client.get("/login").status_code == 405
    assert client.get("/users/me").status_code == 404
    assert client.get("/users/7").text == "7"


def test_a_mounted_application_is_protected_by_its_full_path(client):
    assert client.post("/mount/login").status_code == 403
    assert client.post("/mount/login", headers=PAIR).text == "/login/"
    assert client.post("/mount/free").status_code == 200


def test_a_websocket_needs_a_ticket(client):
    with client.websocket_connect("/socket", headers=PAIR) as connection:
        assert connection.receive_text() == "hello"
    with (
        pytest.raises(litestar.exceptions.WebSocketDisconnect),
        client.websocket_connect("/socket"),
    ):
        pass


def test_refusals_have_the_headers_of_cors():
    cors = CORSConfig(allow_origins=["https://a.example"])
    headers = {"Origin": "https://a.example"}
    with TestClient(app_of(guard_of(), cors_config=cors)) as client:
        refused = client.post("/login", headers=headers)
        preflight = {"Access-Control-Request-Method": "POST"} | headers
        assert client.options("/login", headers=preflight).status_code == 204
    assert refused.status_code == 403
    assert refused.headers["Access-Control-Allow-Origin"] == "https://a.example"


def test_two_guards_of_one_application_both_decide():
    inner, outer = guard_of("POST /login"), guard_of("GET /free")
    app = app_of(inner, outer)
    app.register(get("/late")(free.fn))
    with TestClient(app) as client:
        assert client.post("/login").status_code == 403
        assert client.get("/free").status_code == 403
        assert client.get("/free", headers=PAIR).status_code == 200
        assert client.get("/late").status_code == 200
    paths = app.openapi_schema.to_schema()["paths"]
    assert "x-tcaptcha" in paths["/login"]["post"]
    assert "x-tcaptcha" in paths["/free"]["get"]


def test_one_plugin_may_serve_several_applications():
    plugin = TCaptchaPlugin(guard_of())
    for _ in range(2):
        client = TestClient(Litestar([login, free], plugins=[plugin]))
        assert client.post("/login").status_code == 403
        assert client.get("/free").status_code == 200


@pytest.mark.parametrize("handlers", [[], [login]])
def test_a_route_that_is_added_later_is_protected_or_closed(handlers):
    app = Litestar(handlers, openapi_config=None, plugins=[TCaptchaPlugin(guard_of("/late"))])
    app.register(get("/late")(free.fn))
    client = TestClient(app)
    assert client.get("/late").status_code == (403 if handlers else 500)
    # Without a route on construction, Litestar no longer asks the plugin in time.
    assert client.get("/late", headers=PAIR).status_code == (200 if handlers else 500)


def test_a_request_that_did_not_pass_the_gate_is_rejected():
    app = app_of(guard_of())
    app.asgi_handler = app.asgi_router._router
    with pytest.raises(ConfigurationError, match="not in front"):
        call_asgi(app, scope_of(Exchange("GET", "/free")), ())


# -- What it adds ------


def test_the_guard_is_closed_on_shutdown(monkeypatch):
    verifier = Verifier()
    with TestClient(app_of(guard_of(verifier=verifier))):
        assert verifier.closed == 0
    assert verifier.closed == 1
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "shop")
    with TestClient(app_of(guard_of(verifier=verifier))):
        pass
    assert verifier.closed == 1


def test_the_document_is_described_wherever_it_is_read():
    config = OpenAPIConfig(title="Shop", version="1")
    app = app_of(guard_of(), openapi_config=config)
    with TestClient(app) as client:
        served = client.get("/schema/openapi.json").json()
    validate(served)
    assert served["paths"]["/login"]["post"]["x-tcaptcha"]["rule"] == "POST /login"
    assert "x-tcaptcha" not in served["paths"]["/free"]["get"]
    assert json.loads(json.dumps(app.openapi_schema.to_schema())) == served
    plain = app_of(openapi_config=config).openapi_schema.to_schema()
    assert "x-tcaptcha" not in json.dumps(plain)


def test_an_application_without_a_document_has_none():
    client = TestClient(app_of(guard_of(), openapi_config=None))
    assert client.get("/schema/openapi.json").status_code == 404
    assert client.post("/login").status_code == 403


def test_a_check_finds_the_guard():
    app = app_of(guard_of())
    findings = {str(finding): finding.status for finding in check(app)}
    assert findings["POST /login"] == "covered"
    assert findings["POST /nowhere"] == "dead"


# -- Why it takes the router's place ------


def test_litestars_own_middlewares_do_not_see_what_the_gate_has_to_see():
    seen = []

    class Middleware:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            seen.append(scope["path"])
            await self.app(scope, receive, send)

    async def before_request(request: litestar.Request) -> None:
        seen.append(request.scope["path"])

    app = app_of(middleware=[Middleware], before_request=before_request)
    client = TestClient(app)
    for method, path in [("GET", "/nowhere"), ("GET", "/login"), ("POST", "/mount/login")]:
        client.request(method, path)
    assert seen == ["/login/"]  # of the mounted application, without its mount


# -- Forms of the target ------


def reached(app, form):
    """Return whether a form reaches the handler, without a server's own rules for targets."""
    exchange = Exchange(form.method.decode("latin-1"), form.target.decode("latin-1"))
    sent = call_asgi(app, scope_of(exchange), messages_of(exchange))
    return sent[0]["status"] == 200


FORMS = [*forms(b"POST", b"/login"), *pairs(b"POST", b"/login", 50)]


def test_no_form_of_the_target_gets_around_the_plugin():
    gated, ungated = app_of(guard_of()), app_of()
    around = [form for form in FORMS if reached(gated, form)]
    assert around == []
    assert sum(reached(ungated, form) for form in FORMS) > 5


MODULES = {"uvicorn with h11": "gated_asgi"}


@pytest.mark.outside
@pytest.mark.parametrize(("server", "framework"), [("uvicorn with h11", "litestar")])
class TestOnAServer:
    def test_no_form_of_the_target_gets_around_the_plugin(self, site):
        answers = list(site.send_all(CORPUS, "plugin"))
        assert [str(form) for form, answer in answers if answer.handler in PROTECTED] == []
        plain = site.send_all(PROTECTED.values(), "ungated")
        assert [answer.handler for _, answer in plain] == list(PROTECTED)

    def test_a_ticket_opens_the_handler(self, site):
        answer = site.send(PROTECTED["login"], *pair(), gate="plugin")
        assert (answer.status, answer.handler) == (200, "login")

    def test_a_websocket_needs_a_ticket(self, site):
        handshake = Form(b"GET", b"/socket", headers=())
        assert site.shake(handshake, "plugin") == 403
        assert site.shake_all(HANDSHAKES, "plugin") == []
        ticketed = handshake._replace(headers=pair())
        assert site.shake(ticketed, "plugin") == 101
