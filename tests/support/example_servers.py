"""The examples on their servers, started by the commands in their docstrings."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 20.0
# The command that starts each server as a module, and the option for its address.
SERVERS = {
    "gunicorn": ("gunicorn", "--bind=127.0.0.1:{}"),
    "hypercorn": ("hypercorn", "--bind=127.0.0.1:{}"),
    "uvicorn": ("uvicorn", "--port={}"),
    "waitress-serve": ("waitress", "--listen=127.0.0.1:{}"),
}


def docstring(file):
    return ast.get_docstring(ast.parse(file.read_text())) or ""


def commands(pattern):
    texts = (docstring(file) for file in sorted(EXAMPLES.glob(pattern)))
    return [line for text in texts for line in re.findall(r"^    (.+)$", text, re.MULTILINE)]


def environment(**more):
    # Examples are imported from the current folder, which this variable would forbid.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | more


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(process, client):
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.get("/")
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return True
    return False


def stop(process):
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running(command, port, log, environ):
    program, *words = command.split()
    module, listen = SERVERS[program]
    line = [sys.executable, "-m", module, listen.format(port), *words]
    with (
        log.open("wb") as out,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE, trust_env=False
        ) as client,
        subprocess.Popen(
            line, cwd=EXAMPLES, env=environ, stdout=out, stderr=out, start_new_session=True
        ) as process,
    ):
        try:
            yield client if answers(process, client) else None
        finally:
            stop(process)
