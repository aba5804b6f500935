"""`tcaptcha emulator -- uvicorn main:app --reload`: the command reloads, and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import httpx
import pytest
from example_servers import PATIENCE, environment, free_port

pytestmark = pytest.mark.outside

APP = """
import os

from fastapi import FastAPI

from tcaptcha_middleware import Guard, TCaptchaMiddleware, TencentVerifier

app = FastAPI()
guard = Guard(["POST /login"], TencentVerifier.from_env())
app.add_middleware(TCaptchaMiddleware, guard=guard)
app.get("/")(lambda: os.environ["TCAPTCHA_ENDPOINT"])
app.post("/login")(lambda: "before")
"""


def until(condition, log):
    """Wait until a condition holds, and return its value."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    pytest.fail(log.read_text())


def processes_of(session):
    """Return what a session's processes are called, except those that have ended."""
    names = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = file.read_text(errors="replace").rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, _, own_session = fields.split()[:4]
        if int(own_session) == session and state != "Z":
            names.append(name)
    return names


@pytest.fixture(params=["terminal", "no terminal"])
def interrupt(request):
    """Return what the command has as standard input, and a function that presses Ctrl-C."""
    if request.param == "no terminal":
        yield subprocess.DEVNULL, lambda pid: os.kill(pid, signal.SIGINT)
        return
    controller, terminal = os.openpty()
    # A terminal sends it to each of the processes.
    yield terminal, lambda pid: os.killpg(pid, signal.SIGINT)
    os.close(controller)
    os.close(terminal)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no list of processes")
def test_the_app_is_reloaded_and_ctrl_c_ends_every_process(interrupt, tmp_path):
    stdin, press = interrupt
    file, log, port = tmp_path / "main.py", tmp_path / "log", free_port()
    file.write_text(APP)
    scripts = sysconfig.get_path("scripts")
    environ = environment(PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}")
    emulator = [sys.executable, "-m", "tcaptcha_middleware", "emulator", "--"]
    command = [*emulator, "uvicorn", "main:app", "--reload", f"--port={port}"]
    with (
        log.open("wb") as out,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environ,
            stdin=stdin,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as process,
    ):

        def answer(path="/", **sent):
            try:
                return client.request("POST" if sent else "GET", path, **sent).json()
            except httpx.TransportError:
                return None

        def login():
            pair = client.post(f"{origin}/__emulator__/tickets").json()
            return answer("/login", data=pair)

        try:
            origin = until(answer, log)
            assert login() == "before"
            file.write_text(APP.replace("before", "after"))
            until(lambda: login() == "after", log)
            assert len(processes_of(process.pid)) > 2
            press(process.pid)
            process.wait(PATIENCE)
            until(lambda: not processes_of(process.pid), log)
        finally:
            if processes_of(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in log.read_text()
