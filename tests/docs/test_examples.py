"""Every example works, started by the command in its docstring."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from urllib.parse import quote

import pytest
from example_servers import EXAMPLES, SERVERS, commands, environment, free_port, running

from tcaptcha_middleware.testing import TencentEmulator

README = (EXAMPLES / "README.md").read_text()
DOCS = EXAMPLES.parent / "docs"
(TYPED,) = re.findall(
    r"^    mypy --strict ((?:\\\n|.)*)$",
    (EXAMPLES.parent / "tox.ini").read_text(),
    re.MULTILINE,
)
SERVED, TESTED = commands("*_app.py"), commands("test_*.py")


def in_form(pair):
    return {"data": {"user": "Ada", **pair}}


def before_an_upload(pair):
    fields = [(name, (None, text)) for name, text in pair.items()]
    picture = ("picture", ("ada.png", os.urandom(200_000)))
    return {"files": [*fields, picture, ("user", (None, "Ada"))]}


def in_json(pair):
    return {"json": {"user": "Ada", "captcha": pair}}


def in_flat_json(pair):
    return {"json": {"user": "Ada", **pair}}


def in_query(pair):
    return {"params": pair, "data": {"user": "Ada"}}


PLACES = {
    "django_app": [in_form, before_an_upload],
    "django_settings_app": [in_form, before_an_upload],
    "fastapi_app": [in_form, before_an_upload],
    "fastapi_marked_app": [in_form, before_an_upload],
    "flask_app": [in_form, before_an_upload],
    "flask_marked_app": [in_form, before_an_upload],
    "litestar_app": [in_form, before_an_upload],
    "litestar_marked_app": [in_form, before_an_upload],
    "page_app": [in_form, before_an_upload],
    "quart_app": [in_json],
    "quart_marked_app": [in_form, before_an_upload],
    "rest_framework_app": [in_form, before_an_upload, in_flat_json],
    "starlette_app": [in_form, before_an_upload],
    "starlette_marked_app": [in_form, before_an_upload],
    "wsgi_app": [in_form, in_query],
}


def app_of(command):
    return command.split()[1].partition(":")[0]


@pytest.fixture(scope="module")
def emulator():
    return TencentEmulator()


@pytest.fixture(scope="module")
def environ(emulator, tmp_path_factory):
    settings = emulator.settings
    with emulator.serve() as endpoint:
        yield environment(
            HOME=str(tmp_path_factory.mktemp("home")),  # gunicorn leaves a socket there
            TENCENTCLOUD_SECRET_ID=settings["secret_id"],
            TENCENTCLOUD_SECRET_KEY=settings["secret_key"],
            TCAPTCHA_APP_ID=str(settings["app_id"]),
            TCAPTCHA_APP_SECRET_KEY=settings["app_secret_key"],
            TCAPTCHA_ENDPOINT=endpoint,
        )


@pytest.fixture(scope="module")
def serve(environ, tmp_path_factory):
    """Start each example when a test first needs it; none may log a traceback."""
    logs, clients = tmp_path_factory.mktemp("logs"), {}

    def start(command):
        for attempt in range(3):  # another process may take the port meanwhile
            log = logs / f"{len(clients)}-{attempt}"
            with ExitStack() as tried:
                client = tried.enter_context(running(command, free_port(), log, environ))
                if client is not None:
                    stack.push(tried.pop_all())
                    clients[command] = client, log
                    return
        pytest.fail(f"{command} did not start:\n{log.read_text()}")

    def served(command):
        if command not in clients:
            start(command)
        return clients[command][0]

    with ExitStack() as stack:
        yield served
    logs = {command: log.read_text() for command, (_, log) in clients.items()}
    assert {command: text for command, text in logs.items() if "Traceback" in text} == {}


@pytest.fixture
def site(serve, command):
    return serve(command)


def in_headers(pair, command):
    names = {"X-Captcha-Ticket": pair["ticket"], "X-Captcha-Randstr": pair["randstr"]}
    body = "json" if PLACES[app_of(command)] == [in_json] else "data"
    return {"headers": names, body: {"user": "Ada"}}


def refusal(answer):
    document = answer.json()
    return answer.status_code, document.get("code") or document["error"]


@pytest.mark.parametrize("command", SERVED)
def test_the_home_page_is_open(site):
    assert site.get("/").status_code == 200


@pytest.mark.parametrize("command", SERVED)
def test_no_login_without_a_ticket(site):
    assert refusal(site.post("/login")) == (403, "ticket_missing")


@pytest.mark.parametrize("command", SERVED)
def test_a_pair_in_the_headers_is_valid_for_one_login(site, emulator, command):
    sent = in_headers(emulator.mint(), command)
    first, second = site.post("/login", **sent), site.post("/login", **sent)
    assert (first.status_code, first.json()) == (200, {"hello": "Ada", "captchaCode": 1})
    assert refusal(second) == (403, "ticket_reused")


@pytest.mark.parametrize("command", SERVED)
def test_tencent_is_sent_the_visitors_address(site, emulator, command):
    pair = emulator.mint()
    site.post("/login", **in_headers(pair, command))
    (call,) = [call for call in emulator.calls if call["Ticket"] == pair["ticket"]]
    assert call["UserIp"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("command", "place"),
    [
        pytest.param(command, place, id=f"{command} {place.__name__}")
        for command in SERVED
        for place in PLACES[app_of(command)]
    ],
)
def test_a_pair_from_another_source_passes_and_the_handler_gets_the_whole_body(
    site, emulator, place
):
    sent = place(emulator.mint())
    first, second = site.post("/login", **sent), site.post("/login", **sent)
    assert (first.status_code, first.json()) == (200, {"hello": "Ada", "captchaCode": 1})
    assert refusal(second) == (403, "ticket_reused")


@pytest.mark.parametrize("command", [c for c in SERVED if "starlette_app" in c])
def test_starlettes_responder_distinguishes_a_first_captcha_from_another(
    site, emulator, command
):
    sent = in_headers(emulator.mint(code=15), command)
    bare, rejected = site.post("/login"), site.post("/login", **sent)
    assert bare.json() == {"error": "ticket_missing", "captcha": "first"}
    assert rejected.json() == {"error": "ticket_rejected", "captcha": "again"}


@pytest.mark.parametrize("command", [c for c in SERVED if "flask_app" in c])
def test_flasks_upload_reads_a_pair_only_from_the_headers(site, emulator, command):
    pair, picture = emulator.mint(), os.urandom(200_000)
    assert refusal(site.post("/avatar", data=pair)) == (403, "ticket_missing")
    names = in_headers(pair, command)["headers"]
    assert site.post("/avatar", content=picture, headers=names).json() == {"bytes": 200_000}


@pytest.mark.parametrize("command", [c for c in SERVED if "_marked_app" in c])
def test_a_handler_whose_mark_only_observes_answers_everyone(site, emulator, command):
    sent = in_headers(emulator.mint(), command)
    answers = [site.post("/comments"), site.post("/comments", **sent)]
    assert [answer.json() for answer in answers] == [{"solved": False}, {"solved": True}]


@pytest.mark.parametrize("command", [c for c in SERVED if "django_app" in c])
def test_djangos_webhook_is_exempt_and_every_other_post_is_not(site):
    assert site.post("/webhook").text == "Thanks."
    assert refusal(site.post("/nowhere")) == (403, "ticket_missing")


@pytest.mark.parametrize("command", [c for c in SERVED if "django_app" in c])
def test_djangos_login_runs_for_post_only_and_no_unsafe_method_is_open(site):
    unsafe = ["DELETE", "OPTIONS", "PATCH", "PROPFIND", "PUT"]
    for path in ("/login", "/"):
        assert [site.request(method, path).status_code for method in unsafe] == [403] * 5
    assert site.request("PUT", "/webhook").status_code == 403
    assert site.get("/login").status_code == 405


@pytest.mark.parametrize("command", [c for c in SERVED if "page_app" in c])
def test_the_pages_form_loads_the_module_that_the_gate_serves(site):
    (module,) = re.findall(r'type="module" src="([^"]+)"', site.get("/").text)
    assert site.get(module).headers["Content-Type"].startswith("text/javascript")


@pytest.mark.parametrize("command", [c for c in SERVED if "page_app" in c])
def test_the_report_shows_the_challenge_to_browsers_until_it_is_solved(site, emulator):
    asked = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    shown = site.get("/report", headers=asked)
    assert (shown.status_code, "tcaptcha.js" in shown.text) == (403, True)
    names = {f"tcaptcha_{name}": quote(half) for name, half in emulator.mint().items()}
    cookies = "; ".join(f"{name}={half}" for name, half in names.items())
    opened = site.get("/report", headers=asked | {"Cookie": cookies})
    assert opened.json() == {"visitors": 7}


@pytest.mark.parametrize("command", [c for c in SERVED if "rest_framework_app" in c])
def test_the_permissions_refusals_have_the_envelope_of_the_api(site):
    missing, other = site.post("/login"), site.put("/")
    assert missing.json().keys() == other.json().keys() == {"error", "message"}
    assert missing.headers["Tcaptcha-Code"] == "ticket_missing"
    assert other.status_code == 405


@pytest.mark.parametrize(
    "command", [c for c in SERVED if re.search("(litestar|fastapi)_(marked_)?app", c)]
)
def test_the_openapi_document_describes_the_captcha(site, command):
    folder = "/schema" if "litestar" in command else ""
    paths = site.get(f"{folder}/openapi.json").json()["paths"]
    assert paths["/login"]["post"]["x-tcaptcha"]["rule"] == "POST /login"


@pytest.mark.parametrize("command", [c for c in SERVED if "litestar_app" in c])
def test_litestars_page_is_served(site):
    assert site.get("/tcaptcha/tcaptcha.js").status_code == 200


@pytest.mark.parametrize("command", TESTED)
def test_the_examples_own_tests_pass_without_this_projects_settings(command, tmp_path):
    program, *words = command.split()
    alone = ["-c", os.devnull, f"--rootdir={tmp_path}", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", program, *words, *alone],
        cwd=EXAMPLES,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d passed", done.stdout)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*_marked_app.py")), ids=str)
def test_an_example_with_marks_is_typed_without_exceptions(file):
    assert "type: ignore" not in file.read_text()
    assert f"examples/{file.name}" in TYPED


def imported_integrations(files):
    """Return the integrations that Python files or documents import."""
    pattern = r"^from tcaptcha_middleware\.integrations(?:\.| import )(\w+)"
    texts = (file.read_text() for file in files)
    return {name for text in texts for name in re.findall(pattern, text, re.MULTILINE)}


def test_every_documented_integration_is_used_by_an_example():
    documented = imported_integrations(DOCS.glob("*.md"))
    assert {"django", "fastapi", "openapi"} < documented
    assert imported_integrations(EXAMPLES.glob("*.py")) == documented
    assert "tcaptcha=true" in README  # the pytest plugin, which is not imported


def test_the_readme_names_every_example_and_nothing_else():
    files = {file.name for file in EXAMPLES.glob("*.py")}
    assert set(re.findall(r"\]\((\w+\.py)\)", README)) == files


def test_the_readme_shows_the_commands_of_the_docstrings():
    cells = re.findall(r"^\| \[.*\| (.*) \|$", README, re.MULTILINE)
    commands = [command for cell in cells for command in re.findall(r"`([^`]+)`", cell)]
    assert sorted(commands) == sorted(SERVED + TESTED)


def test_every_server_that_is_tested_serves_some_example():
    assert {command.split()[0] for command in SERVED} == SERVERS.keys()
