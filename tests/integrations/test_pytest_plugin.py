"""The pytest plugin, in runs of pytest that are not ours."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

# Runs of pytest in this process forget the modules that they import, so all are loaded here.
import fastapi.testclient  # noqa: F401
import flask  # noqa: F401
import pytest

import tcaptcha_middleware.integrations.pytest_plugin
import tcaptcha_middleware.testing.emulated
from tcaptcha_middleware import *  # noqa: F403
from tcaptcha_middleware.tencent.credentials import ACCOUNT, VARIABLES

pytest_plugins = ["pytester"]

PLUGIN = tcaptcha_middleware.integrations.pytest_plugin.__name__
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/testing.md").read_text()
MAIN, TESTS = re.findall(r"^```py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
(SETTINGS,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
REAL = {
    "TENCENTCLOUD_SECRET_ID": "AKIDtest000000000000000000000000",
    "TENCENTCLOUD_SECRET_KEY": "0123456789abcdef0123456789abcdef",
    "TENCENTCLOUD_TOKEN": "temporary",
    "TCAPTCHA_APP_ID": "190000001",
    "TCAPTCHA_APP_SECRET_KEY": "0123456789abcdef012345678",
}
CLIENT = """
from fastapi.testclient import TestClient
from main import app, guard

client = TestClient(app)

def login(tcaptcha):
    return client.post("/login", headers=tcaptcha.headers())
"""


@pytest.fixture
def project(pytester, monkeypatch):
    """Return a function that runs tests beside the documented application."""
    # Not the plugins of this environment, nor ours a second time if it is installed.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def run(text, *arguments, settings=SETTINGS, main=MAIN, in_process=True, **files):
        pytester.makepyprojecttoml(settings)
        pytester.makepyfile(main=main, test_it=text, **files)
        run = pytester.runpytest_inprocess if in_process else pytester.runpytest_subprocess
        named = ("-p", PLUGIN) if "PYTEST_DISABLE_PLUGIN_AUTOLOAD" in os.environ else ()
        return run(*named, *arguments)

    return run


def passed(result):
    return result.parseoutcomes().get("passed", 0), result.ret


# -- The documented use ------


def test_the_documented_tests_pass(project):
    assert passed(project(TESTS)) == (3, 0)


def test_the_documented_tests_pass_in_a_process(project):
    assert passed(project(TESTS, in_process=False)) == (3, 0)


def test_the_documented_tests_pass_with_the_plugin_of_the_installed_package(
    project, monkeypatch
):
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    result = project(TESTS, in_process=False)
    assert passed(result) == (3, 0)
    result.stdout.fnmatch_lines(["plugins: *tcaptcha*"])


def test_a_conftest_may_import_the_application(project):
    conftest = "import pytest\nfrom main import app\n"
    assert passed(project(TESTS, conftest=conftest)) == (3, 0)


FLASK = """
from flask import Flask
from tcaptcha_middleware import Guard, Rule, TCaptchaWSGIMiddleware, TencentVerifier
from tcaptcha_middleware import TencentMiniProgramVerifier, MemoryReplayStore

app = Flask(__name__)
app.add_url_rule("/login", "login", lambda: "hello", methods=["POST"])
app.add_url_rule("/mini", "mini", lambda: "hello", methods=["POST"])
mini = Rule("POST /mini", verifier=TencentMiniProgramVerifier.from_env())
guard = Guard(
    ["POST /login", mini],
    TencentVerifier.from_env(),
    replay_store=MemoryReplayStore(single_process=True),
)
app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, guard)
"""


def test_flask_is_tested_with_fields_and_with_tickets_of_mini_programs(project):
    text = """
        from main import app

        post = app.test_client().post

        def test_fields(tcaptcha):
            assert post("/login", data=tcaptcha.fields()).status_code == 200
            assert post("/login", json=tcaptcha.fields()).status_code == 200
            assert post("/mini", headers=tcaptcha.headers(kind="mini")).status_code == 200
            assert post("/login", data=tcaptcha.fields(code=15)).status_code == 403
            assert [call["UserIp"] for call in tcaptcha.calls] == ["127.0.0.1"] * 4
    """
    assert passed(project(text, main=FLASK)) == (1, 0)


DJANGO = """
import django
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("login", lambda request: HttpResponse("hello"))]
settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["tcaptcha_middleware.integrations.django.CaptchaMiddleware"],
    ROOT_URLCONF="main",
    TCAPTCHA={"RULES": ["UNSAFE /login"]},
)
django.setup()
"""


def test_django_is_tested_with_its_own_settings(project):
    text = """
        import main
        from django.test import Client

        def test_a_login(tcaptcha):
            client = Client()
            assert client.post("/login").json()["code"] == "ticket_missing"
            assert client.post("/login", tcaptcha.fields()).content == b"hello"
            tcaptcha.answer("expired")
            answer = client.post("/login", headers=tcaptcha.headers())
            assert answer.json()["code"] == "ticket_expired"
            with tcaptcha.down():
                assert client.post("/login", tcaptcha.fields()).status_code == 503
    """
    assert passed(project(text, main=DJANGO, in_process=False)) == (1, 0)


def test_async_tests_work_on_asyncio_and_trio(project):
    text = """
        import httpx, pytest
        from main import app

        @pytest.mark.anyio
        async def test_a_login(tcaptcha):
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                assert (await client.post("/login")).status_code == 403
                headers = tcaptcha.headers()
                assert (await client.post("/login", headers=headers)).status_code == 200
                tcaptcha.assert_verified(headers)
    """
    result = project(text, "-p", "anyio", "-v")
    result.stdout.fnmatch_lines(["*asyncio*PASSED*", "*trio*PASSED*"])


def test_each_worker_of_xdist_has_an_emulator(project):
    pytest.importorskip("xdist")
    text = (
        CLIENT
        + """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_a_login(tcaptcha, number):
    assert login(tcaptcha).status_code == 200
    tcaptcha.assert_verified()
    name = f"origin-{os.environ['PYTEST_XDIST_WORKER']}"
    pathlib.Path(name).write_text(os.environ["TCAPTCHA_ENDPOINT"])
"""
    )
    arguments = ("-p", "xdist", "-n2", "--dist=each")
    assert passed(project(text, *arguments, in_process=False)) == (8, 0)
    origins = {file.read_text() for file in Path().glob("origin-*")}
    assert len(origins) == 2


# -- What the fixture does ------


def test_outcomes_are_used_in_order(project):
    text = (
        CLIENT
        + """
def test_outcomes(tcaptcha):
    tcaptcha.answer("expired", 15, "risk", "passed")
    answers = [login(tcaptcha) for _ in range(5)]
    codes = [answer.json().get("code") for answer in answers]
    assert codes == ["ticket_expired", "ticket_rejected", "risk_denied", None, None]
"""
    )
    assert passed(project(text)) == (1, 0)


def test_an_unknown_outcome_is_an_error(project):
    text = """
        import pytest

        @pytest.mark.parametrize("outcome", ["expird", True, None])
        def test_it(tcaptcha, outcome):
            with pytest.raises(ValueError, match="is not an outcome: use a code or one of"):
                tcaptcha.answer("passed", outcome)
    """
    assert passed(project(text)) == (3, 0)


def test_a_test_that_left_the_service_down_does_not_affect_the_next(project):
    text = (
        CLIENT
        + """

def test_down(tcaptcha):
    assert login(tcaptcha).status_code == 200
    tcaptcha.down()
    assert guard.health == {"POST /login": "down"}
    assert login(tcaptcha).status_code == 200  # it fails open
    tcaptcha.answer("expired")
    assert login(tcaptcha).status_code == 200
    tcaptcha.assert_verified(times=0)
    tcaptcha.up()
    assert login(tcaptcha).json()["code"] == "ticket_expired"
    for _ in range(2):
        tcaptcha.down()
        assert guard.health == {"POST /login": "down"}

def test_up(tcaptcha):
    assert guard.health == {"POST /login": "up"}
    assert tcaptcha.calls == []
    assert login(tcaptcha).status_code == 200
    tcaptcha.assert_verified()
"""
    )
    assert passed(project(text)) == (2, 0)


def test_answers_that_were_not_used_do_not_affect_the_next_test(project):
    text = (
        CLIENT
        + """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_a_login(tcaptcha, number):
    assert login(tcaptcha).status_code == 200
    tcaptcha.assert_verified()
    tcaptcha.answer(8, 8)
    tcaptcha.emulator.latency = 10.0
"""
    )
    assert passed(project(text)) == (2, 0)


def test_probes_of_a_gate_use_none_of_the_outcomes(project):
    text = (
        CLIENT
        + """
def test_busy(tcaptcha):
    for _ in range(5):
        tcaptcha.answer(26, 26, 26)  # also for the gate's probe
        assert client.post("/login", headers=tcaptcha.headers()).status_code == 503
        tcaptcha.emulator.script()
        tcaptcha.renew()
        tcaptcha.answer(15)
        answer = client.post("/login", headers=tcaptcha.headers())
        assert answer.json()["code"] == "ticket_rejected"
"""
    )
    assert passed(project(text)) == (1, 0)


def test_without_a_guard_an_outage_takes_no_time(project):
    text = """
        import time

        def test_down(tcaptcha):
            began = time.monotonic()
            with tcaptcha.down():
                assert not tcaptcha.emulator.is_up
            assert tcaptcha.emulator.is_up
            assert time.monotonic() - began < 0.5
    """
    assert passed(project(text, in_process=False)) == (1, 0)


def test_a_pair_that_was_not_verified_fails_the_test(project):
    text = (
        CLIENT
        + """
def test_never(tcaptcha):
    client.post("/signin", headers=tcaptcha.headers())
    tcaptcha.assert_verified()

def test_another(tcaptcha):
    first = tcaptcha.headers()
    client.post("/login", headers=tcaptcha.headers())
    tcaptcha.assert_verified(first)

def test_something_was_verified(tcaptcha):
    client.post("/login", headers={"X-Captcha-Ticket": "tr03x", "X-Captcha-Randstr": "@r"})
    tcaptcha.assert_verified(times=0)

def test_nothing_was_verified(tcaptcha):
    client.post("/login")
    tcaptcha.assert_verified(times=0)

def test_as_often_as_expected(tcaptcha):
    headers = tcaptcha.headers()
    client.post("/login", headers=headers)
    client.post("/login", headers=headers)
    tcaptcha.assert_verified(headers, times=1)
    tcaptcha.assert_verified(tcaptcha.fields(), times=0)
"""
    )
    result = project(text)
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*the pair was verified 0 times, not 1; other pairs 0 times. Is the endpoint*",
            "*the pair was verified 0 times, not 1; other pairs 1 times. Is the endpoint*",
            "*the pair was verified 1 times, not 0; other pairs 0 times. Is the endpoint*",
        ]
    )


def test_guards_that_are_not_closed_leave_no_connection_open(project):
    text = """
        import gc
        from fastapi import FastAPI
        from fastapi.testclient import TestClient
        from flask import Flask
        from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier
        from tcaptcha_middleware import TCaptchaWSGIMiddleware

        def make_guard():
            return Guard(["POST /login"], TencentVerifier.from_env())

        def test_async(tcaptcha):
            app = FastAPI()
            app.add_middleware(TCaptchaMiddleware, guard=make_guard())
            TestClient(app).post("/login", headers=tcaptcha.headers())
            tcaptcha.assert_verified()

        def test_sync(tcaptcha):
            app = Flask(__name__)
            app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, make_guard())
            app.test_client().post("/login", headers=tcaptcha.headers())
            tcaptcha.assert_verified()

        def test_nothing_is_open():
            gc.collect()
    """
    assert passed(project(text, "-W", "error", in_process=False)) == (3, 0)


# -- The environment ------


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        *((name, "") for name in ACCOUNT),
        ("TENCENTCLOUD_SECRET_ID", "https://gateway.example"),
        ("TENCENTCLOUD_SECRET_ID", "http://[::1"),
    ],
)
def test_a_real_account_is_refused_by_name(project, monkeypatch, name, endpoint):
    monkeypatch.setenv(name, REAL[name])
    monkeypatch.setenv("TCAPTCHA_ENDPOINT", endpoint)
    result = project(TESTS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if "ERROR" in line]
    assert f"real account of Tencent ({name})" in line
    assert "tcaptcha_override = true" in line
    assert REAL[name] not in str(result.stderr)


REPLACED = {
    "if the option says so": (REAL, "tcaptcha_override = true\n"),
    "if it is an emulator": (REAL | {"TCAPTCHA_ENDPOINT": "http://127.0.0.1:1"}, ""),
}


@pytest.mark.parametrize(("variables", "setting"), REPLACED.values(), ids=REPLACED)
def test_an_account_is_replaced_while_tests_run(project, monkeypatch, variables, setting):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert passed(project(TESTS, settings=SETTINGS + setting)) == (3, 0)
    assert {name: os.environ[name] for name in VARIABLES if name in os.environ} == variables


def test_the_site_of_the_environment_stays(project, monkeypatch):
    monkeypatch.setenv("TCAPTCHA_SITE", "intl")
    text = (
        CLIENT
        + """
import os

def test_a_login(tcaptcha):
    assert guard.verifier.captcha.site == "intl"
    assert guard.verifier.captcha.script == f"{os.environ['TCAPTCHA_ENDPOINT']}/TJCaptcha.js"
    assert client.post("/login", headers=tcaptcha.headers()).status_code == 200
"""
    )
    assert passed(project(text)) == (1, 0)


def test_a_missing_extra_is_reported(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = project(TESTS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: tcaptcha: *pip install 'tcaptcha-middleware?demo?'"])


# -- Without the option ------

INERT = f"""
import os, sys

def test_nothing_is_set_or_loaded():
    names = sorted(name for name in sys.modules if name.startswith("tcaptcha_middleware"))
    assert names == ["tcaptcha_middleware", "tcaptcha_middleware.integrations", "{PLUGIN}"]
    assert not {{"uvicorn", "anyio", "asyncio"}} & sys.modules.keys()
    assert "TCAPTCHA_ENDPOINT" not in os.environ
"""


@pytest.mark.parametrize("settings", ["", "[tool.pytest]\ntcaptcha = false\n"])
def test_without_the_option_nothing_happens(project, settings):
    assert passed(project(INERT, settings=settings, in_process=False)) == (1, 0)


def test_without_the_option_the_fixture_says_what_is_missing(project):
    result = project("def test_it(tcaptcha): pass", settings="")
    result.stdout.fnmatch_lines(["*the fixture tcaptcha needs tcaptcha = true*"])


def test_our_own_tests_run_without_the_option(pytestconfig):
    # If the plugin is loaded at all, which it is if the package is installed.
    if pytestconfig.pluginmanager.has_plugin("tcaptcha"):
        assert not pytestconfig.getini("tcaptcha")


def test_pytest_finds_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"tcaptcha": PLUGIN}
    (installed,) = entry_points(group="pytest11", name="tcaptcha")
    assert installed.value == PLUGIN
