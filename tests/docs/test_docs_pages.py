"""The documentation is correct: its code runs, and its tables match the package."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
import sys
import tomllib
from collections import Counter
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from unittest.mock import patch
from urllib.parse import urlencode, urlsplit

import fastapi
import httpx
import pytest
from adapters import ALLOWED, RUNNERS, Exchange
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.middleware.proxy_fix import ProxyFix

import tcaptcha_middleware as tc
from tcaptcha_middleware.health.limits import CEILING
from tcaptcha_middleware.replay.memory import CAPACITY
from tcaptcha_middleware.settings import RuleSettings, Settings
from tcaptcha_middleware.tencent.credentials import VARIABLES
from tcaptcha_middleware.testing import FakeVerifier, TencentEmulator
from tcaptcha_middleware.wsgi import ENVIRON_KEY

ROOT = Path(__file__).parents[2]
PAGES = {file.name: file.read_text() for file in sorted((ROOT / "docs").glob("*.md"))}
# The blocks of these pages are run by the tests of what they describe.
OTHERS = ("browser-tests.md", "django.md", "mini-programs.md", "openapi.md")


def blocks(page, language="python"):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def block(page, marker):
    (text,) = [text for text in blocks(page) if marker in text]
    return text


def run(text, **names):
    module = ModuleType("main")
    vars(module).update(names)
    with patch.dict(sys.modules, {"main": module}):  # where Litestar looks for annotations
        exec(compile(text, "docs", "exec"), vars(module))
    return vars(module)


def env_of(settings, endpoint):
    return {
        "TENCENTCLOUD_SECRET_ID": settings["secret_id"],
        "TENCENTCLOUD_SECRET_KEY": settings["secret_key"],
        "TCAPTCHA_APP_ID": str(settings["app_id"]),
        "TCAPTCHA_APP_SECRET_KEY": settings["app_secret_key"],
        "TCAPTCHA_ENDPOINT": endpoint,
    }


@pytest.fixture
def emulator(monkeypatch):
    emulator = TencentEmulator()
    with emulator.serve() as endpoint:
        for name, value in env_of(emulator.settings, endpoint).items():
            monkeypatch.setenv(name, value)
        yield emulator


@pytest.fixture
def mysite(monkeypatch):
    from django.conf import settings

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.test import override_settings
    from django.urls import path

    urls, wsgi = ModuleType("mysite.urls"), ModuleType("mysite.wsgi")
    urls.urlpatterns = [path("login", lambda _: HttpResponse())]
    for module in (ModuleType("mysite"), urls, wsgi):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with override_settings(ROOT_URLCONF="mysite.urls", ALLOWED_HOSTS=["*"]):
        guard = tc.Guard(["POST /login"], FakeVerifier())
        wsgi.application = tc.TCaptchaWSGIMiddleware(get_wsgi_application(), guard)
        yield wsgi


def headers(name="any"):
    return {"X-Captcha-Ticket": name, "X-Captcha-Randstr": "any"}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OTHERS])
def test_every_block_runs(emulator, mysite, page):
    for text in blocks(page):
        names = run(text)
        for name, test in list(names.items()):
            if name.startswith("test_"):
                test()


@pytest.mark.parametrize("page", PAGES)
def test_every_link_between_pages_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)]*)\)", PAGES[page])
    assert {link for link in links if not leads(ROOT / "docs" / page, link)} == set()


def test_the_index_names_every_page():
    links = set(re.findall(r"\]\(([^)]*)\)", PAGES["README.md"]))
    assert links | {"README.md"} == PAGES.keys()


def leads(page, link):
    path, _, anchor = link.partition("#")
    file = page.parent / path if path else page
    if not file.exists():
        return False
    return not anchor or anchor in anchors(file.read_text())


def anchors(text):
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_example_says_what_the_page_says_to_browsers_without_scripts():
    (notice,) = [text for text in blocks("browser.md", "html") if "noscript" in text]
    assert notice in (ROOT / "examples/page_app.py").read_text()


# -- getting-started.md ------

START = PAGES["getting-started.md"]


def pair_headers(pair):
    return {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}


def test_the_fastapi_lines_protect(emulator):
    pair = emulator.mint()
    with TestClient(run(block("getting-started.md", "app = FastAPI()"))["app"]) as client:
        refused = client.post("/login")
        accepted, again = [client.post("/login", headers=pair_headers(pair)) for _ in "12"]
    assert refused.text in START
    assert (accepted.status_code, accepted.json()) == (200, {"hello": "human"})
    assert again.json()["code"] == "ticket_reused"


def test_the_flask_lines_protect(emulator):
    names = run(block("getting-started.md", "Flask(__name__)"))
    client, pair = names["app"].test_client(), emulator.mint()
    assert client.post("/login").text in START
    assert client.post("/login", headers=pair_headers(pair)).json == {"hello": "human"}
    assert client.post("/login", headers=pair_headers(pair)).status_code == 403
    names["guard"].close()


@pytest.mark.parametrize("marker", ["app = Starlette", "app = Quart"])
def test_the_lines_of_other_asgi_frameworks_protect(emulator, marker):
    app = run(block("getting-started.md", marker))["app"]
    assert TestClient(app).post("/login").json()["code"] == "ticket_missing"


def test_the_django_lines_protect_every_unsafe_method(emulator, mysite):
    application = run(block("getting-started.md", "get_wsgi_application"))["application"]
    transport = httpx.WSGITransport(application)
    with httpx.Client(transport=transport, base_url="http://localhost") as client:
        statuses = [client.request(m, "/login").status_code for m in ("POST", "PUT", "GET")]
    assert statuses == [403, 403, 200]


def test_the_handlers_lines_read_the_decision():
    handler = run(block("getting-started.md", "def handler"))["handler"]
    environ = {ENVIRON_KEY: tc.Allow("POST /login", tc.Verdict(1))}
    assert handler(environ) == ("POST /login", 1, None)
    assert handler({"type": "http"}) is None


def test_the_responders_lines_answer(emulator):
    guard = run(block("getting-started.md", "def responder"))["guard"]
    app = Flask(__name__)
    app.wsgi_app = tc.TCaptchaWSGIMiddleware(app.wsgi_app, guard)
    answer = app.test_client().post("/login")
    assert (answer.status_code, answer.text) == (403, "Prove that you are human.")
    assert answer.headers["Tcaptcha-Code"] == "ticket_missing"
    guard.close()


def test_the_table_of_refusals_matches_the_package():
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (\d{3})", START, re.MULTILINE)
    statuses = {
        name: int(status) for names, status in rows for name in re.findall(r"\w+", names)
    }
    assert statuses == {reason.value: reason.status for reason in tc.Reason}


def test_every_variable_is_listed():
    assert all(f"`{name}`" in START for name in VARIABLES)


def test_every_extra_is_listed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = re.findall(r"^\| `(\w+)` \|", START.partition("\n## ")[0], re.MULTILINE)
    assert set(rows) == extras["optional-dependencies"].keys()


# -- rules.md, sources.md, verifiers.md ------


def test_the_second_lock_fails_closed(emulator):
    login = run(block("rules.md", "require_captcha"))["login"]
    login({ENVIRON_KEY: tc.Allow("login", tc.Verdict(1))})
    with pytest.raises(tc.CaptchaRequired):
        login({ENVIRON_KEY: tc.Allow("other", tc.Verdict(1))})


def test_the_limits_match_the_package():
    guard = inspect.signature(tc.Guard).parameters
    limit, seconds = guard["body_limit"].default, guard["body_timeout"].default
    assert (
        f"at most {limit // 1024} KiB (`body_limit`) within {seconds:.0f} seconds"
        in " ".join(PAGES["sources.md"].split())
    )
    timeout = inspect.signature(tc.TencentVerifier).parameters["timeout"].default
    assert f"`timeout`, {timeout:.0f} seconds by default" in PAGES["verifiers.md"]
    assert f"At {CAPACITY:,}\nclaims the store fails" in PAGES["replay-stores.md"]
    assert f"a number above {CEILING} counts as {CEILING}" in PAGES["settings.md"]


def test_the_custom_verifier_is_usable_in_a_thread():
    verifier = run(block("verifiers.md", "class MyVerifier"))["verifier"]
    rule = tc.Rule("POST /login", on_unavailable="allow")
    guard = tc.Guard([rule], verifier)
    sent = (("X-Captcha-Ticket", "good"), ("X-Captcha-Randstr", "x"))
    assert RUNNERS["asgi"](guard, Exchange(target="/login", headers=sent)).code == ALLOWED


# -- settings.md ------


def table(title):
    part = PAGES["settings.md"].partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [line[2:-2].split(" | ") for line in part.splitlines() if line.startswith("| `")]
    return {name.strip("`"): cells for name, *cells in rows}


def defaults(of):
    if of is tc.TencentVerifier:
        parameters = inspect.signature(of).parameters.values()
        return {parameter.name: parameter.default for parameter in parameters}
    return {
        item.name: item.default if item.default_factory is MISSING else item.default_factory()
        for item in fields(of)
        if item.init and item.name != "_"
    }


def says(cell, default):
    if default in (MISSING, inspect.Parameter.empty):
        return cell == "needed"
    value = eval(cell.strip("`"), vars(tc) | {name: getattr(tc, name) for name in tc.__all__})
    if inspect.isfunction(default):
        request = tc.RequestInfo("http", "GET", "/", peer="192.0.2.1")
        return value(request) == default(request)
    if type(default) in (tc.MemoryReplayStore, tc.Switch):
        return type(value) is type(default)
    return (type(value), value) == (type(default), default)


@pytest.mark.parametrize(
    ("title", "of"),
    [
        ("Guard and Rule", tc.Guard),
        ("Page", tc.Page),
        ("TencentVerifier", tc.TencentVerifier),
    ],
    ids=["Guard", "Page", "TencentVerifier"],
)
def test_every_setting_is_listed_with_its_default(title, of):
    rows, known = table(title), defaults(of)
    assert rows.keys() == known.keys()
    assert {name for name, cells in rows.items() if not says(cells[-2], known[name])} == set()


def test_every_setting_of_a_rule_is_listed():
    shared, alone = table("Guard and Rule"), table("Rule only")
    known = {"text": MISSING, "name": "", "verifier": None} | dict.fromkeys(
        RuleSettings.__annotations__
    )
    assert {name for name, (own, *_) in shared.items() if own == "yes"} | alone.keys() == (
        known.keys()
    )
    assert all(says(cells[-2], known[name]) for name, cells in alone.items())
    assert {item.name for item in fields(Settings)} <= shared.keys()


# -- operating.md ------


def test_the_fields_of_an_event_are_listed():
    part = PAGES["operating.md"].partition("## Events")[2].partition("\n## ")[0]
    names = re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)
    assert names == [item.name for item in fields(tc.Event)]


def test_the_signed_cookie_opens_the_page_and_a_forged_one_does_not(emulator):
    app = run(block("rules.md", "TimestampSigner"))["app"]
    pair = emulator.mint()
    names = {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}
    with TestClient(app, base_url="https://localhost") as client:
        bare = client.get("/report").status_code
        cookie = "solved=human.a.b; solved=é; solved".encode()
        made_up = client.get("/report", headers={"Cookie": cookie})
        solved = client.get("/report", headers=names)
        again = client.get("/report")
    assert (bare, made_up.status_code) == (403, 403)
    assert (solved.status_code, again.json()) == (200, {"visitors": 7})


def test_the_counter_shows_what_would_have_been_refused():
    names = run(block("operating.md", "Counter()"))
    rules = ["POST /login", tc.Rule("POST /comments", mode="observe")]
    guard = tc.Guard(rules, FakeVerifier(), on_event=names["count"])
    for target in ("/login", "/comments"):
        RUNNERS["flow"](guard, Exchange(target=target))
    assert names["decisions"] == Counter(
        {
            ("POST /login", "refused", "ticket_missing"): 1,
            ("POST /comments", "unchecked", "would be ticket_missing"): 1,
        }
    )


def test_the_flag_switches_the_gate_off(emulator, tmp_path):
    names = run(block("operating.md", "OFF ="))
    names["OFF"] = flag = tmp_path / "off"
    app = Flask(__name__)
    app.post("/login")(lambda: "")
    app.wsgi_app = tc.TCaptchaWSGIMiddleware(app.wsgi_app, names["guard"])
    asked = app.test_client().post("/login").status_code
    flag.touch()
    assert (asked, app.test_client().post("/login").status_code) == (403, 200)
    names["guard"].close()


def on_a_socket(**head):
    listed = [(name.lower().encode(), value.encode()) for name, value in head.items()]
    return tc.RequestInfo("http", "POST", "/login", headers=listed, peer="")


def test_on_a_unix_socket_the_proxys_header_has_the_address(emulator):
    guard = run(block("operating.md", '"unix"'))["guard"]
    sent = on_a_socket(**{"X-Forwarded-For": "192.0.2.7"})
    assert guard.client_ip(sent) == "192.0.2.7"
    assert guard.client_ip(on_a_socket()) == ""


def test_on_a_unix_socket_no_peer_is_trusted_and_percent_means_all_visitors():
    request = on_a_socket(**{"X-Forwarded-For": "192.0.2.7"})
    proxies = tc.TrustedProxies(["127.0.0.1", "10.0.0.0/8"])
    assert proxies(request) == ""
    guard = tc.Guard(["POST /login"], FakeVerifier(), percent=1, client_ip=proxies)
    assert guard.match("POST", "/login").enforces(request)


def test_proxy_fix_around_the_gate_sets_the_address():
    verifier = FakeVerifier()
    app = Flask(__name__)
    app.post("/login")(lambda: "")
    app.wsgi_app = ProxyFix(
        tc.TCaptchaWSGIMiddleware(app.wsgi_app, tc.Guard(["POST /login"], verifier))
    )
    sent = headers() | {"X-Forwarded-For": "192.0.2.7"}
    app.test_client().post("/login", headers=sent, environ_base={"REMOTE_ADDR": ""})
    assert [ticket.user_ip for ticket in verifier.tickets] == ["192.0.2.7"]


# -- testing.md ------


def test_djangos_test_client_bypasses_the_gate(mysite):
    from django.test import Client

    assert Client().post("/login").status_code == 200
    transport = httpx.WSGITransport(mysite.application)
    with httpx.Client(transport=transport, base_url="http://localhost") as client:
        assert client.post("/login").status_code == 403
        assert client.post("/login", headers=headers()).status_code == 200


def test_a_handler_called_without_the_gate_gets_no_decision():
    assert tc.get_decision(Request({"type": "http"})) is None


@pytest.mark.parametrize("rule", ["POST /login", "POST /shop/login"])
def test_below_a_mount_a_rule_is_matched_as_it_is_written(rule):
    guard = tc.Guard([rule], FakeVerifier())
    written = rule.split()[1]
    other = {"/login": "/shop/login", "/shop/login": "/login"}[written]
    assert guard.match("POST", written)
    assert guard.match("POST", other) is None
    inner = FastAPI()
    inner.post("/login")(lambda: None)
    inner.add_middleware(tc.TCaptchaMiddleware, guard=guard)
    client = TestClient(Starlette(routes=[Mount("/shop", inner)]))
    assert client.post("/shop/login").status_code == 403


# -- browser.md ------


def test_the_documented_sources_match_the_package(emulator, monkeypatch):
    for name in ("TCAPTCHA_ENDPOINT", "TCAPTCHA_SCRIPT", "TCAPTCHA_SITE"):
        monkeypatch.delenv(name, raising=False)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        run(block("browser.md", "csp_sources"))
    assert blocks("browser.md", "text") == [printed.getvalue()]


def test_cors_outside_the_gate_covers_refusals_and_allows_the_headers(emulator):
    app = run(block("browser.md", "CORSMiddleware"))["app"]
    origin = "https://www.example.com"
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-captcha-ticket, x-captcha-randstr",
    }
    with TestClient(app) as client:
        refused = client.post("/login", headers={"Origin": origin})
        allowed = client.options("/login", headers=asked)
    assert refused.status_code == 403
    assert refused.headers["Access-Control-Allow-Origin"] == origin
    assert allowed.status_code == 200


def test_below_a_mount_the_module_is_below_it_too():
    guard = tc.Guard(["POST /login"], FakeVerifier(), page="/tcaptcha")
    inner = FastAPI()
    inner.add_middleware(tc.TCaptchaMiddleware, guard=guard)
    client = TestClient(Starlette(routes=[Mount("/shop", inner)]))
    (path,) = re.findall(r"the module is `([^`]+)`", PAGES["browser.md"])
    assert client.get(path).status_code == 200
    assert client.get(path.removeprefix("/shop")).status_code == 404


# -- Other pages ------


def test_a_script_over_http_is_accepted_from_loopback_only():
    values = re.findall(r"^export \w+=(\S+)", PAGES["browser-tests.md"], re.MULTILINE)
    endpoint, script = values
    settings = TencentEmulator().settings
    verifier = tc.TencentVerifier(**settings, endpoint=endpoint, script=script)
    assert verifier.captcha.script == script
    for host in ("0.0.0.0", "emulator"):
        other = urlsplit(script)._replace(netloc=f"{host}:9000").geturl()
        with pytest.raises(tc.ConfigurationError, match="use https"):
            tc.TencentVerifier(**settings, script=other)


def test_the_capacity_of_the_memory_store_is_validated():
    assert f"its capacity of {CAPACITY:,}" in PAGES["mini-programs.md"]


def test_no_public_name_shadows_one_of_fastapi():
    assert [name for name in tc.__all__ if hasattr(fastapi, name)] == []


@pytest.mark.parametrize("override", ["", "X-HTTP-Method-Override", "X_HTTP_Method-Override"])
def test_a_preflight_that_names_another_method_does_not_count(override):
    sent = [("Origin", "https://a"), ("Access-Control-Request-Method", "POST")]
    sent += [(override, "POST")] if override else []
    guard = tc.Guard(["/login"], FakeVerifier())
    exchange = Exchange(method="OPTIONS", target="/login", headers=tuple(sent))
    code = RUNNERS["flow"](guard, exchange).code
    assert code == ("ticket_missing" if override else ALLOWED)


def test_swapped_secret_keys_fail_at_the_first_verification():
    emulator = TencentEmulator()
    settings = emulator.settings
    swapped = settings | {
        "secret_key": settings["app_secret_key"],
        "app_secret_key": settings["secret_key"],
    }
    with (
        emulator.serve() as endpoint,
        tc.TencentVerifier(**swapped, endpoint=endpoint) as verifier,
        pytest.raises(tc.MisconfiguredError),
    ):
        verifier.verify(tc.Submission(**emulator.mint(), user_ip="192.0.2.1"))


def test_a_ticket_of_another_captcha_is_code_16():
    emulator = TencentEmulator()
    with (
        emulator.serve() as endpoint,
        tc.TencentVerifier(**emulator.settings, endpoint=endpoint) as verifier,
    ):
        ticket = tc.Submission(**emulator.mint(app_id=190000009), user_ip="192.0.2.1")
        assert verifier.verify(ticket).code == 16


def test_a_function_reads_one_field_and_refuses_a_batch(emulator):
    guard = run(block("sources.md", "sources.Body"))["guard"]
    pair = emulator.mint()
    operation = {"query": "…", "extensions": pair}
    json_type = (("Content-Type", "application/json"),)
    form_type = (("Content-Type", "application/x-www-form-urlencoded"),)

    def code(target, headers, body):
        exchange = Exchange(target=target, headers=headers, pieces=(body.encode(),))
        return RUNNERS["wsgi"](guard, exchange).code

    assert code("/graphql", json_type, json.dumps([operation] * 50)) == "ticket_missing"
    assert code("/graphql", json_type, json.dumps(operation)) == ALLOWED
    fields = urlencode({"captcha": "___".join(emulator.mint().values())})
    assert code("/comments", form_type, fields) == ALLOWED
    assert code("/comments", form_type, "captcha=") == "ticket_missing"
    guard.close()
