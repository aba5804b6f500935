"""A real server in a separate process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_START = 60.0
_HERE = str(Path(__file__).parent)
_COMMANDS = {
    "uvicorn": ("uvicorn", "--no-access-log", "--log-level", "critical"),
    "granian": ("granian", "--interface", "asgi", "--no-log"),
}


@contextmanager
def serving(server: str, app: str, *observer: str) -> Iterator[tuple[int, int]]:
    """Serve `apps.<app>`; yields the port, and the id of the server's first process.

    Args:
        server: Its name.
        app: The application.
        observer: A command that runs the server, such as valgrind, which takes its time.

    Raises:
        RuntimeError: If the server does not start.
    """
    port = _free_port()
    name, *options = _COMMANDS[server]
    command = [*observer, sys.executable, "-m", name, *options, f"--port={port}", f"apps:{app}"]
    with subprocess.Popen(
        command, cwd=_HERE, env=os.environ | {"PYTHONPATH": _HERE}
    ) as process:
        try:
            _wait(process, port)
            yield port, process.pid
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError("the server did not start")
