"""`tcaptcha check`, as a process: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tcaptcha_middleware.cli import main
from tcaptcha_middleware.tencent.credentials import ACCOUNT

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/check.md").read_text()


def block(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]


FASTAPI = block("python")
FLASK = """
from flask import Flask
from tcaptcha_middleware import Guard, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

print("the module prints this")

def create_app():
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/login", "login", lambda: "", methods=["GET", "POST"])
    app.add_url_rule("/any/<path:x>", "any", lambda x: "")
    app.wsgi_app = TCaptchaWSGIMiddleware(app.wsgi_app, Guard(["POST /login"], FakeVerifier()))
    return app
"""
DJANGO = {
    "mysite/__init__.py": "",
    "mysite/settings.py": "ROOT_URLCONF = 'mysite.urls'\nSECRET_KEY = 'x'\n",
    "mysite/urls.py": """
from django.http import HttpResponse
from django.urls import include, path
from django.views.decorators.http import require_POST

login = lambda request: HttpResponse()
urlpatterns = [
    path("accounts/", include([path("login/", login), path("pay/", require_POST(login))])),
]
""",
    "mysite/wsgi.py": """
from django.core.wsgi import get_wsgi_application
from tcaptcha_middleware import Guard, TCaptchaWSGIMiddleware
from tcaptcha_middleware.testing import FakeVerifier

guard = Guard(["POST /accounts/login/"], FakeVerifier())
application = TCaptchaWSGIMiddleware(get_wsgi_application(), guard)
""",
}


@pytest.fixture
def project(tmp_path):
    """Return a function that writes files and runs the command among them."""

    def run(files, *arguments, **environ):
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        command = [sys.executable, "-m", "tcaptcha_middleware", "check", *arguments]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | environ,
            capture_output=True,
            check=False,
            text=True,
        )

    return run


def test_the_documented_output_is_printed(project):
    process = project({"main.py": FASTAPI}, "main:app")
    assert (process.stdout, process.stderr) == (block("text"), "")
    assert process.returncode == 1


def test_a_terminal_without_the_letters_of_a_path_shows_their_codes(project):
    text = FLASK.replace('"/login"', '"/登录"')
    process = project({"shop.py": text}, "shop:create_app()", PYTHONIOENCODING="ascii")
    assert "/\\u767b\\u5f55" in process.stdout
    assert process.returncode == 1


@pytest.mark.parametrize(
    "arguments", [("shop:create_app()",), ("shop:create_app", "--factory")], ids=str
)
def test_a_factory_is_called(project, arguments):
    process = project({"shop.py": FLASK}, *arguments, "--format", "json")
    assert process.returncode == 0
    other = {"rule": "", "detail": "", "accepted": False}
    assert json.loads(process.stdout) == [
        other
        | {
            "methods": ["GET", "POST"],
            "path": "/login",
            "status": "covered",
            "rule": "POST /login",
        },
        other | {"methods": ["GET"], "path": "/any/{x:path}", "status": "uncovered"},
    ]
    assert process.stderr == "the module prints this\n"


def test_without_findings_the_table_says_so(project):
    process = project({"shop.py": FLASK}, "shop:create_app()")
    assert process.stdout.endswith("\n\nNothing needs attention.\n")


def test_django_is_read_through_its_settings(project):
    process = project(
        DJANGO, "mysite.wsgi:application", DJANGO_SETTINGS_MODULE="mysite.settings"
    )
    assert process.returncode == 1
    rows = [re.split(r" {2,}", line, maxsplit=4) for line in process.stdout.splitlines()]
    missing = "not CONNECT, DELETE, OPTIONS and others"
    assert rows[1:3] == [
        ["partly", "every", "/accounts/login/", "POST /accounts/login/", missing],
        ["open", "POST", "/accounts/pay/", "-"],
    ]


IN_DJANGO = DJANGO | {
    "mysite/settings.py": DJANGO["mysite/settings.py"]
    + """
INSTALLED_APPS = ["tcaptcha_middleware.integrations.django"]
MIDDLEWARE = ["tcaptcha_middleware.integrations.django.CaptchaMiddleware"]
TCAPTCHA = {
    "RULES": ["UNSAFE /accounts/**", "POST /logon"],
    "VERIFIER": "tcaptcha_middleware.testing.FakeVerifier",
}
""",
    "mysite/wsgi.py": """
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
""",
}


def test_a_guard_in_djangos_settings_is_found(project):
    process = project(
        IN_DJANGO,
        *("mysite.wsgi:application", "--format=json"),
        DJANGO_SETTINGS_MODULE="mysite.settings",
    )
    rows = json.loads(process.stdout)
    assert [(row["status"], row["rule"]) for row in rows] == [
        ("covered", "UNSAFE /accounts/**"),
        ("covered", "UNSAFE /accounts/**"),
        ("dead", "POST /logon"),
    ]
    assert process.returncode == 1


ACCEPT = """
[tool.tcaptcha]
accept = ["POST /signin", "GET,POST,PUT /comments", "POST /files/{name:path}", "POST /sigin"%s]
"""


def test_accepted_findings_need_no_attention(project):
    pages = ', "GET /tcaptcha/tcaptcha.js", "GET /tcaptcha/settings.json", "POST /old"'
    files = {"main.py": FASTAPI, "pyproject.toml": ACCEPT % pages}
    process = project(files, "main:app")
    assert process.returncode == 0
    assert process.stdout.count("accepted") == 6
    assert process.stderr == "tcaptcha: accept has 'POST /old', which is not in the table\n"
    assert re.search(r"^open .*  accepted$", process.stdout, re.MULTILINE)
    assert process.stdout.count('  accepted; did you mean "POST /signin"?\n') == 1
    assert process.stdout.count("  accepted; not PUT\n") == 1
    rows = json.loads(project(files, "main:app", "--format", "json").stdout)
    assert sum(row["accepted"] for row in rows) == 6
    assert {row["status"] for row in rows if row["accepted"]} == {
        "dead",
        "open",
        "partly",
        "shadowed",
    }


@pytest.mark.parametrize("name", ["/comments", "POST /comments", "GET,POST /comments"])
def test_an_accepted_path_with_other_methods_is_named_with_those_of_the_table(project, name):
    settings = f"[tool.tcaptcha]\naccept = ['{name}']"
    process = project({"main.py": FASTAPI, "pyproject.toml": settings}, "main:app")
    assert process.returncode == 1
    assert process.stderr == (
        f"tcaptcha: accept has '{name}', which is not in the table: "
        'write "GET,POST,PUT /comments"\n'
    )


def test_what_is_not_accepted_still_needs_attention(project):
    process = project({"main.py": FASTAPI, "pyproject.toml": ACCEPT % ""}, "main:app")
    assert process.returncode == 1
    assert process.stdout.endswith("Needs attention: 2 shadowed.\n")


OPAQUE = "from werkzeug.middleware.dispatcher import DispatcherMiddleware" + FLASK.replace(
    "return app", "return DispatcherMiddleware(app, {'/raw': print})"
)


def test_opaque_routes_need_attention_if_strict(project):
    assert project({"shop.py": OPAQUE}, "shop:create_app()").returncode == 0
    process = project({}, "shop:create_app()", "--strict")
    assert process.returncode == 1
    assert process.stdout.endswith("Needs attention: 1 opaque.\n")


@pytest.mark.parametrize(
    ("accept", "strict", "returncode"),
    [("", [], 0), ("", ["--strict"], 1), ("'/raw/{path:path}'", ["--strict"], 0)],
)
def test_the_json_has_opaque_routes(project, accept, strict, returncode):
    files = {"shop.py": OPAQUE, "pyproject.toml": f"[tool.tcaptcha]\naccept = [{accept}]"}
    process = project(files, "shop:create_app()", "--format", "json", *strict)
    assert process.returncode == returncode
    assert json.loads(process.stdout)[0] == {
        "methods": [],
        "path": "/raw/{path:path}",
        "status": "opaque",
        "rule": "",
        "detail": "builtin_function_or_method is not an application that can be read",
        "accepted": bool(accept),
    }


UNMARKED = """
from fastapi import FastAPI
from tcaptcha_middleware.integrations.fastapi import protect
from tcaptcha_middleware.testing import FakeVerifier

app = FastAPI()
protect(app, FakeVerifier())
app.post("/login")(lambda: "")
"""
CANNOT = {
    "no name": ({}, "main", 'write "module:app"'),
    "no module": ({}, "main:app", "ModuleNotFoundError: No module named 'main'"),
    "no attribute": ({"main.py": ""}, "main:app", "has no attribute 'app'\n"),
    "another attribute": (
        {"main.py": re.sub(r"\bapp\b", "site", FASTAPI) + "from flask import request"},
        "main:app",
        "has no attribute 'app': write \"main:site\"\n",
    ),
    "the name of its factory": (
        {
            "main.py": FLASK
            + "gate = TCaptchaWSGIMiddleware(None, Guard(['/'], FakeVerifier()))"
        },
        "main:app",
        'has no attribute \'app\': write "main:create_app()" or "main:gate"\n',
    ),
    "a file": (
        {"main.py": FASTAPI},
        "main.py:app",
        'has the name of a file: write "main:app"\n',
    ),
    "a file in a folder": (
        DJANGO,
        "./mysite/wsgi.py",
        "'./mysite/wsgi.py' has the name of a file: write \"mysite.wsgi:app\"\n",
    ),
    "a factory that fails": (
        {"main.py": "def create_app():\n    1 / 0"},
        "main:create_app()",
        'See where with: python -c "import main; main.create_app()"\n',
    ),
    "no account": (
        {"main.py": "import tcaptcha_middleware as t\napp = t.TencentVerifier.from_env({})"},
        "main:app",
        "(without an account: tcaptcha emulator -- COMMAND)\n",
    ),
    "an error": (
        {"main.py": "1 / 0"},
        "main:app",
        'by zero. See where with: python -c "import main"\n',
    ),
    "an end": ({"main.py": "import sys; sys.exit(0)"}, "main:app", "SystemExit: 0"),
    "a factory": ({"main.py": FLASK}, "main:create_app", "write a factory as"),
    "no guard": ({"main.py": FASTAPI + "app.user_middleware.clear()"}, "main:app", "no guard"),
    "no mark": (
        {"main.py": UNMARKED},
        "main:app",
        "Mark each handler that robots abuse, such as that of POST /login",
    ),
    "no routes": (
        {"main.py": "from starlette.applications import Starlette as S; app = S()"},
        "main:app",
        "has no routes",
    ),
    "no settings": (DJANGO, "mysite.wsgi:application", "settings are not configured"),
}


@pytest.mark.parametrize("why", CANNOT)
def test_what_cannot_be_checked_has_its_own_status_and_a_message(project, why):
    files, target, message = CANNOT[why]
    process = project(files, target)
    assert (process.returncode, process.stdout) == (2, "")
    lines = process.stderr.splitlines(keepends=True)
    (error,) = [line for line in lines if line.startswith("tcaptcha: ")]
    assert message in error


BROKEN = {
    "[": "is not valid TOML: ",
    b"accept = '\xff'": "is not valid TOML: 'utf-8' codec",
    "tool = 'x'": "tool.tcaptcha is 'x': write a table, [tool.tcaptcha]",
    "[tool]\ntcaptcha = ['POST /token']": "is ['POST /token']: write a table, [tool.tcaptcha]",
    "[[tool.tcaptcha]]\naccept = []": "is [{'accept': []}]: write a table, [tool.tcaptcha]",
    "[tool.tcaptcha]\nacept = []": "[tool.tcaptcha] has 'acept': its only key is accept",
    **{
        f"[tool.tcaptcha]\naccept = {toml}": f"accept is {value}: write a list of what"
        for toml, value in {
            "'POST /token'": "'POST /token'",
            "1": "1",
            "true": "True",
            "[1]": "[1]",
            "{path = '/token'}": "{'path': '/token'}",
            "[['POST /token']]": "[['POST /token']]",
        }.items()
    },
}


@pytest.mark.parametrize("content", BROKEN, ids=repr)
def test_a_broken_pyproject_is_an_error_with_the_file_the_value_and_the_fix(
    tmp_path, monkeypatch, capsys, content
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pyproject.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main(["check", "main:app"]) == 2
    output, error = capsys.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    assert error.startswith(f"tcaptcha: {file}")
    assert BROKEN[content] in error


def test_a_pyproject_that_cannot_be_read_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "pyproject.toml"
    file.mkdir()
    assert main(["check", "main:app"]) == 2
    assert capsys.readouterr().err == f"tcaptcha: {file} cannot be read: Is a directory\n"


@pytest.mark.parametrize("content", ["", "tool = {}", "[tool.ruff]", "[tool.tcaptcha]"])
def test_a_pyproject_without_accept_accepts_nothing(project, content):
    process = project({"shop.py": FLASK, "pyproject.toml": content}, "shop:create_app()")
    assert process.stdout.endswith("Nothing needs attention.\n")
    assert "accept" not in process.stderr


def test_an_unexpected_error_is_not_taken_for_a_finding(project):
    text = (
        "class App:\n    @property\n    def app(self): raise RuntimeError('proxy')\napp = App()"
    )
    process = project({"main.py": text}, "main:app")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr.endswith("RuntimeError: proxy\n")


# In this process, as the coverage is measured there.


def test_the_command_returns_its_status(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "checked_in_process.py").write_text(
        FLASK + "from tcaptcha_middleware import TencentVerifier"
    )
    target = "checked_in_process:create_app"
    assert main(["check", f"{target}()"]) == 0
    (tmp_path / "pyproject.toml").write_text('[tool.tcaptcha]\naccept = ["POST /old"]')
    assert main(["check", f"{target}()"]) == 0
    assert main(["check", target, "--factory", "--format", "json"]) == 0
    assert main(["check", target]) == 2
    assert main(["check", "checked_in_process"]) == 2
    assert main(["check", "checked_in_process.py:x"]) == 2
    assert main(["check", "checked_in_process:x"]) == 2
    assert main(["check", "no_such_module:x"]) == 2
    for name in ACCOUNT:
        monkeypatch.delenv(name, raising=False)
    assert main(["check", "checked_in_process:TencentVerifier.from_env()"]) == 2
    monkeypatch.setattr("tcaptcha_middleware.integrations.routes.command.check", None)
    assert main(["check", f"{target}()"]) == 2
    monkeypatch.delitem(sys.modules, "checked_in_process")
    error = capsys.readouterr().err
    assert "accept has 'POST /old'" in error
