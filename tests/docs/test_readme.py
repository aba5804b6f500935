"""The README is correct: its code runs, its links exist, its figures match the package."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import django.core.asgi
import django.core.wsgi
import httpx
import pytest
from django.conf import settings as django_settings
from fastapi import FastAPI
from fastapi.testclient import TestClient

import tcaptcha_middleware as tc
from tcaptcha_middleware.testing import TencentEmulator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
# The parameters of a call that say nothing about the visitor.
OWN = {"CaptchaAppId", "CaptchaType", "NeedGetCaptchaTime"}
LINKS = re.findall(r"\]\(([^)]*)\)", README)


@pytest.fixture
def emulator(monkeypatch):
    emulator = TencentEmulator()
    with emulator.serve() as endpoint:
        settings = emulator.settings
        monkeypatch.setenv("TENCENTCLOUD_SECRET_ID", settings["secret_id"])
        monkeypatch.setenv("TENCENTCLOUD_SECRET_KEY", settings["secret_key"])
        monkeypatch.setenv("TCAPTCHA_APP_ID", str(settings["app_id"]))
        monkeypatch.setenv("TCAPTCHA_APP_SECRET_KEY", settings["app_secret_key"])
        monkeypatch.setenv("TCAPTCHA_ENDPOINT", endpoint)
        yield emulator


@pytest.fixture
def names(emulator):
    """The names of the README's first block, and the modules that a Django project imports."""
    if not django_settings.configured:
        django_settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    names = {
        "__name__": "main",
        "get_asgi_application": django.core.asgi.get_asgi_application,
        "get_wsgi_application": django.core.wsgi.get_wsgi_application,
    }
    run("guard = Guard", names)
    yield names
    names["guard"].close()


def run(marker, names):
    (block,) = [text for text in BLOCKS if marker in text]
    exec(compile(block, "README.md", "exec"), names)


def headers(pair):
    return {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}


def test_every_block_runs_after_the_first(names):
    for block in BLOCKS[1:]:
        exec(compile(block, "README.md", "exec"), names)


def test_the_fastapi_lines_protect(names, emulator):
    run("guard=guard)  # add CORS", names)
    names["app"].post("/login")(lambda: None)
    client, pair = TestClient(names["app"]), emulator.mint()
    statuses = [client.post("/login", headers=h).status_code for h in ({}, headers(pair))]
    again = client.post("/login", headers=headers(pair))
    assert (statuses, again.json()["code"]) == ([403, 200], "ticket_reused")


def test_the_flask_lines_protect(names, emulator):
    run("app = Flask(__name__)", names)
    names["app"].post("/login")(lambda: "")
    client, pair = names["app"].test_client(), emulator.mint()
    assert client.post("/login").status_code == 403
    assert client.post("/login", headers=headers(pair)).status_code == 200


def test_the_quart_lines_protect(names, emulator):
    run("app = Quart(__name__)", names)

    @names["app"].post("/login")
    async def login():
        return ""

    client, pair = TestClient(names["app"]), emulator.mint()
    assert client.post("/login").status_code == 403
    assert client.post("/login", headers=headers(pair)).status_code == 200


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_the_django_lines_wrap_the_application(names, kind):
    run(f"get_{kind}_application()", names)
    application = names["application"]
    if kind == "wsgi":
        client = httpx.Client(
            transport=httpx.WSGITransport(application), base_url="http://localhost"
        )
    else:
        client = TestClient(application, base_url="http://localhost")
    assert client.post("/login").json()["code"] == "ticket_missing"
    assert client.post("/admin/x").json()["code"] == "ticket_missing"


def test_the_line_of_the_page_loads_the_module(names):
    run("guard=guard)  # add CORS", names)
    (path,) = re.findall(r'<script type="module" src="([^"]+)">', README)
    assert TestClient(names["app"]).get(path).status_code == 200


def test_no_other_personal_data_is_sent_than_the_readme_says(names, emulator):
    run("guard=guard)  # add CORS", names)
    sent = headers(emulator.mint()) | {"User-Agent": "x", "Cookie": "a=b", "X-Secret": "y"}
    TestClient(names["app"]).post("/login", headers=sent)
    assert emulator.calls[0].keys() - OWN == {
        "Ticket",
        "Randstr",
        "UserIp",
    }


def test_the_lines_of_the_test_pass(names):
    run("def test_a_login", names)
    names["test_a_login_needs_a_captcha"]()


def test_the_lines_of_the_verifier_work(names):
    run("class MyVerifier", names)
    app = FastAPI()
    app.post("/login")(lambda: None)
    app.add_middleware(
        tc.TCaptchaMiddleware, guard=tc.Guard(["POST /login"], names["MyVerifier"]())
    )
    tickets = ("open-sesame", "open-barley")
    sent = [headers({"ticket": ticket, "randstr": "x"}) for ticket in tickets]
    statuses = [TestClient(app).post("/login", headers=each).status_code for each in sent]
    assert statuses == [200, 403]


def test_the_figures_match_the_package():
    timeout = inspect.signature(tc.TencentVerifier).parameters["timeout"].default
    budget = inspect.signature(tc.Guard).parameters["allow_per_minute"].default
    assert f"one signed call to Tencent, {timeout:.0f} seconds at most" in README
    assert f"let in unchecked, {budget} a minute for each rule" in README


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_commands_on_top_start_from_nothing():
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert [command.rpartition("&& ")[2] for command in commands] == [
        ".venv/bin/tcaptcha demo",
        ".venv/bin/tox run-parallel -o",
    ]
    assert "'.[demo]'" in commands[0]
    assert "demo" in PROJECT["optional-dependencies"]
    assert "tcaptcha" in PROJECT["scripts"]


@pytest.mark.parametrize("link", LINKS)
def test_every_link_is_absolute_and_leads_somewhere(link):
    source = f"{PROJECT['urls']['Source']}/blob/main/"
    assert link.startswith("https://")
    if link.startswith(PROJECT["urls"]["Source"]):
        assert (ROOT / link.removeprefix(source)).is_file()


def test_the_readme_names_every_page_of_the_documentation():
    named = {link.rpartition("/")[2] for link in LINKS}
    pages = {file.name for file in (ROOT / "docs").glob("*.md")}
    assert pages <= named


def test_the_projects_urls_lead_somewhere():
    source = f"{PROJECT['urls']['Source']}/blob/main/"
    for name in ("Documentation", "Changelog"):
        assert (ROOT / PROJECT["urls"][name].removeprefix(source)).is_file()
