"""The commands: what they serve, print and report as errors."""

from __future__ import annotations

import inspect
import os
import re
import signal
import socket
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import version
from types import SimpleNamespace
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from networks import needs_ipv6

import tcaptcha_middleware
from tcaptcha_middleware import Submission, TencentVerifier, cli
from tcaptcha_middleware.cli import main
from tcaptcha_middleware.testing import TencentEmulator

ACCOUNT = {
    "TENCENTCLOUD_SECRET_ID": "AKIDtest000000000000000000000000",
    "TENCENTCLOUD_SECRET_KEY": "0123456789abcdef0123456789abcdef",
    "TCAPTCHA_APP_ID": "190000001",
    "TCAPTCHA_APP_SECRET_KEY": "0123456789abcdef012345678",
}


def run(capsys, *words, environ=None, then=lambda origin: None):
    """Run the command until it serves, call `then` with its origin, and end it."""

    def wait():
        printed.append(capsys.readouterr().out)
        origin = next(word for word in printed[0].split() if word.startswith("http://"))
        then(origin.rstrip("."))

    printed = []
    assert main([*words, "--port", "0"], environ or {}, wait) == 0
    return printed[0]


def settings_of(origin):
    return httpx.get(f"{origin}/tcaptcha/settings.json").json()


def test_the_demo_works_without_an_account(capsys, caplog):
    def visit(origin):
        script = urljoin(f"{origin}/tcaptcha/settings.json", settings_of(origin)["script"])
        assert "TencentCaptcha" in httpx.get(script).text
        request = {"script": "TJCaptcha.js", "appId": "190000000", "options": {}}
        pair = httpx.post(urljoin(script, "__emulator__/challenge"), json=request).json()
        answers = [httpx.post(f"{origin}/login", data=pair).status_code for _ in range(2)]
        assert answers == [200, 403]

    with caplog.at_level("WARNING"):
        assert "an emulator on this machine" in run(capsys, "demo", then=visit)
    # Its own emulator is not worth a warning.
    assert not [line for line in caplog.messages if "verifications go to" in line]


@pytest.mark.parametrize("host", ["0.0.0.0", pytest.param("::", marks=needs_ipv6)])
def test_the_demo_prints_addresses_that_work_if_it_listens_on_all(capsys, host):
    hosts = []

    def visit(origin):
        assert httpx.get(origin).status_code == 200
        hosts.append(urlsplit(origin).hostname)

    output = run(capsys, "demo", "--host", host, then=visit)
    *_, last = re.findall(r"http://\S+", output)
    assert urlsplit(last).hostname in ("127.0.0.1", "::1")
    assert host not in hosts


def test_without_a_network_the_demo_prints_the_loopback_address(capsys, monkeypatch):
    monkeypatch.setitem(
        cli._EVERY_ADDRESS, "0.0.0.0", (socket.AF_INET, "255.255.255.255", "127.0.0.1")
    )
    output = run(capsys, "demo", "--host", "0.0.0.0")
    assert re.findall(r"http://[^:]+", output) == ["http://127.0.0.1"]


@needs_ipv6
def test_the_demo_prints_the_address_that_it_listens_on(capsys):
    output = run(capsys, "demo", "--host", "::1", then=httpx.get)
    assert re.findall(r"http://\S+(?=:)", output) == ["http://[::1]"]


def test_with_an_account_the_demo_uses_tencents_own_script_and_api(capsys):
    def visit(origin):
        settings = settings_of(origin)
        assert settings["script"].startswith("https://ca.turing.captcha.qcloud.com/TJNCaptcha")
        assert (settings["appId"], settings["site"]) == ("190000001", "intl")

    environ = ACCOUNT | {"TCAPTCHA_SITE": "intl"}
    assert "checked by Tencent" in run(capsys, "demo", environ=environ, then=visit)


def test_with_an_account_the_demo_asks_its_endpoint(capsys):
    emulator = TencentEmulator()

    def visit(origin):
        pair = emulator.mint()
        answers = [httpx.post(f"{origin}/login", data=pair).status_code for _ in range(2)]
        assert answers == [200, 403]

    with emulator.serve() as endpoint:
        settings = emulator.settings
        values = (settings[name] for name in ("secret_id", "secret_key", "app_id"))
        environ = dict(zip(ACCOUNT, map(str, values), strict=False)) | {
            "TCAPTCHA_APP_SECRET_KEY": settings["app_secret_key"],
            "TCAPTCHA_ENDPOINT": endpoint,
        }
        output = run(capsys, "demo", environ=environ, then=visit)
    assert f"checked by {endpoint}" in output


def test_an_incomplete_account_is_refused_by_name(capsys):
    assert main(["demo"], {"TCAPTCHA_APP_ID": "190000001"}) == 2
    assert (
        "set the environment variables TENCENTCLOUD_SECRET_ID, TENCENTCLOUD_SECRET_KEY, "
        "TCAPTCHA_APP_SECRET_KEY (without an account: tcaptcha emulator -- COMMAND); for the "
        "demo, unset TCAPTCHA_APP_ID"
    ) in capsys.readouterr().err


def test_the_emulator_prints_the_settings_that_work_with_it():
    command = [sys.executable, "-m", "tcaptcha_middleware", "emulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            lines = [process.stdout.readline() for _ in range(8)]
            environ = dict(
                line.removeprefix("export ").strip().split("=", 1) for line in lines[1:7]
            )
            assert environ["TCAPTCHA_SCRIPT"] in lines[7]
            assert "TencentCaptcha" in httpx.get(environ["TCAPTCHA_SCRIPT"]).text
            pair = httpx.post(f"{environ['TCAPTCHA_ENDPOINT']}/__emulator__/tickets").json()
            with TencentVerifier.from_env(environ) as verifier:
                assert verifier.verify(Submission(**pair, user_ip="203.0.113.7")).passed
        finally:
            process.terminate()


ENDS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}


@pytest.mark.parametrize("command", ["demo", "emulator"])
@pytest.mark.parametrize("number", ENDS.values(), ids=ENDS)
def test_a_signal_ends_the_command_in_time(command, number):
    # A shell has commands in the background ignore Ctrl-C, which they would pass on.
    before = signal.signal(number, signal.default_int_handler)
    words = [sys.executable, "-m", "tcaptcha_middleware", command, "--port", "0"]
    environ = {name: text for name, text in os.environ.items() if name not in ACCOUNT}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            origin = re.search(r"http://[\d.]+:\d+", process.stdout.readline())[0]
            # An idle connection does not delay the exit.
            with httpx.Client() as client:
                client.get(origin)
                process.send_signal(number)
                began = time.monotonic()
                assert process.wait(10) == 0
                assert time.monotonic() - began < 2
        finally:
            process.kill()
            signal.signal(number, before)


def test_the_handler_of_sigterm_is_restored():
    before = signal.getsignal(signal.SIGTERM)
    seen = []
    main(["emulator", "--port", "0"], {}, lambda: seen.append(signal.getsignal(signal.SIGTERM)))
    assert seen == [signal.default_int_handler]
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_signature_holds_no_environment():
    assert os.environ not in [p.default for p in inspect.signature(main).parameters.values()]


@pytest.mark.parametrize("command", ["demo", "emulator"])
def test_a_port_in_use_is_reported(capsys, command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main([command, "--port", port], {}) == 2
    assert "in use" in capsys.readouterr().err


def test_a_missing_extra_is_reported_with_the_install_command(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["emulator", "--port", "0"], {}) == 2
    assert "pip install 'tcaptcha-middleware[demo]'" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "x", ""])
def test_an_invalid_port_is_reported(capsys, port):
    with pytest.raises(SystemExit):
        main(["demo", "--port", port])
    assert "is not a port" in capsys.readouterr().err


def test_without_a_command_the_usage_is_shown(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "demo" in capsys.readouterr().err


def test_ctrl_c_is_not_a_failure(monkeypatch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("tcaptcha_middleware.cli.time", SimpleNamespace(sleep=sleep))
    assert main(["emulator", "--port", "0"], {}) == 0
    # Each wait has a timeout, or Ctrl-C would not interrupt it on Windows.
    assert slept == [1, 1, 1]


def test_the_module_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tcaptcha"])
    with pytest.raises(SystemExit) as caught:
        # Not runpy.run_module(), which needs another loader than pytest's for its plugins.
        import_module("tcaptcha_middleware.__main__")
    assert caught.value.code == 2
    assert "usage: tcaptcha" in capsys.readouterr().err


def test_the_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    installed = version("tcaptcha-middleware")
    assert capsys.readouterr().out == f"tcaptcha-middleware {installed}\n"
    assert tcaptcha_middleware.__version__ == installed


# -- A command beside the emulator ------

VERIFY = """
import json, urllib.request
from tcaptcha_middleware import Submission, TencentVerifier
verifier = TencentVerifier.from_env()
origin = verifier.captcha.script.removesuffix("/TJCaptcha.js")
request = urllib.request.Request(f"{origin}/__emulator__/tickets", method="POST")
pair = json.load(urllib.request.urlopen(request))
print("passed:", verifier.verify(Submission(**pair, user_ip="203.0.113.7")).passed)
"""


def beside_the_emulator(*words, environ=os.environ):
    return main(["emulator", "--", *words], environ)


def test_a_command_runs_with_the_settings_of_the_emulator(capfd):
    # Also if a real account is set, with the token of a temporary key.
    environ = os.environ | ACCOUNT | {"TENCENTCLOUD_TOKEN": "real"}
    assert beside_the_emulator(sys.executable, "-c", VERIFY, environ=environ) == 0
    printed = capfd.readouterr()
    assert printed.out == "passed: True\n"
    assert "/__emulator__/tickets" in printed.err


def test_the_port_of_the_emulator_can_be_set(capfd):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    script = "import os; print(os.environ['TCAPTCHA_ENDPOINT'])"
    assert main(["emulator", "--port", port, "--", sys.executable, "-c", script]) == 0
    assert capfd.readouterr().out == f"http://127.0.0.1:{port}\n"


def test_options_after_the_dashes_belong_to_the_command(capfd):
    script = "import sys; print(sys.argv[1:]); sys.exit(7)"
    words = ("--port", "x", "--", "--reload")
    assert beside_the_emulator(sys.executable, "-c", script, *words) == 7
    assert capfd.readouterr().out == f"{list(words)}\n"


def test_a_command_that_does_not_exist_is_reported(capsys):
    assert beside_the_emulator("uvicorm", "main:app") == 127
    problem = "uvicorm is not a command: check its name, or activate its virtual environment\n"
    assert problem in capsys.readouterr().err


SIGNAL = "import os, signal, time; os.kill(os.getppid(), signal.{}); time.sleep({}); exit(5)"
# A terminal sends Ctrl-C to the command, too; it must not get it twice.
FORWARDED = {
    "SIGTERM": ("SIGTERM", False, 128 + signal.SIGTERM),
    "SIGTERM at a terminal": ("SIGTERM", True, 128 + signal.SIGTERM),
    "Ctrl-C": ("SIGINT", False, 128 + signal.SIGINT),
    "Ctrl-C at a terminal": ("SIGINT", True, 5),
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize(("name", "at_a_terminal", "status"), FORWARDED.values(), ids=FORWARDED)
def test_a_signal_reaches_the_command_once(monkeypatch, name, at_a_terminal, status):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: at_a_terminal))
    # A shell has commands in the background ignore Ctrl-C, which they would pass on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert (
            beside_the_emulator(
                sys.executable, "-c", SIGNAL.format(name, 0.5 if status == 5 else 20)
            )
            == status
        )
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
