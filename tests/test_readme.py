"""The README is true: its code runs, its tables are the package's own."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from flask import Flask

from tcaptcha_middleware import Reason, Verdict
from tcaptcha_middleware.models import Allow
from tcaptcha_middleware.tencent.environment import VARIABLES
from tcaptcha_middleware.testing import TencentEmulator
from tcaptcha_middleware.wsgi import ENVIRON_KEY

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


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


def block(marker):
    (found,) = [text for text in BLOCKS if marker in text]
    return found


def run(marker, **names):
    names["__name__"] = "main"
    exec(compile(block(marker), "README.md", "exec"), names)
    return names


@pytest.mark.parametrize("text", BLOCKS, ids=range(1, len(BLOCKS) + 1))
def test_every_block_runs(emulator, text):
    exec(compile(text, "README.md", "exec"), {"__name__": "main"})


def headers(pair):
    return {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}


def test_the_fastapi_lines_protect(emulator):
    pair = emulator.mint()
    with TestClient(run("app = FastAPI()\n\nguard")["app"]) as client:
        refused, accepted = client.post("/login"), client.post("/login", headers=headers(pair))
        again = client.post("/login", headers=headers(pair))
    assert refused.text in README
    assert (accepted.status_code, accepted.json()) == (200, {"hello": "human"})
    assert again.json()["code"] == "ticket_reused"


def test_the_flask_lines_protect(emulator):
    names = run("Flask(__name__)")
    app, pair = names["app"], emulator.mint()
    assert isinstance(app, Flask)
    client = app.test_client()
    assert client.post("/login").text in README
    assert client.post("/login", headers=headers(pair)).json == {"hello": "human"}
    assert client.post("/login", headers=headers(pair)).status_code == 403
    names["guard"].close()


def test_the_handlers_lines_read_the_decision():
    handler = run("def handler")["handler"]
    environ = {ENVIRON_KEY: Allow("POST /login", Verdict(1))}
    assert handler(environ) == ("POST /login", 1, None)


def test_the_test_lines_pass():
    run("def test_a_captcha")["test_a_captcha_is_needed_once_per_login"]()


def test_the_table_of_refusals_is_the_packages_own():
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| (\d{3})", README, re.MULTILINE)
    told = {code: int(status) for codes, status in rows for code in re.findall(r"\w+", codes)}
    assert told == {reason.value: reason.status for reason in Reason}


def test_every_variable_is_told():
    assert all(f"`{name}`" in README for name in VARIABLES)


def test_the_deadline_and_the_limit_are_told():
    from tcaptcha_middleware import Guard, TencentVerifier

    timeout = inspect.signature(TencentVerifier).parameters["timeout"].default
    limit = inspect.signature(Guard).parameters["body_limit"].default
    assert f"one deadline ({timeout:.0f} seconds)" in README
    assert f"at most {limit // 1024} KiB" in README
