"""Applications of this folder on real servers, in separate processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent
PATIENCE = 20.0

# The command of each server; the application's name and the address are filled in.
_GUNICORN = "gunicorn --bind=127.0.0.1:{port} {module}:wsgi"
_GRANIAN = "granian --port={port} --no-ws --workers=1 --interface"
_GRANIAN_WS = "granian --port={port} --ws --workers=1 --interface"
COMMANDS = {
    "uvicorn with h11": "uvicorn --port={port} --http=h11 {module}:asgi",
    "uvicorn with httptools": "uvicorn --port={port} --http=httptools {module}:asgi",
    "hypercorn": "hypercorn --bind=127.0.0.1:{port} {module}:asgi",
    "hypercorn on trio": "hypercorn --worker-class=trio --backlog=2048 "
    "--bind=127.0.0.1:{port} {module}:asgi",
    "granian for ASGI": _GRANIAN + "=asgi {module}:asgi",
    "granian with websockets": _GRANIAN_WS + "=asgi {module}:asgi",
    "gunicorn": _GUNICORN,
    "gunicorn with threads": _GUNICORN + " --threads=4",
    "gunicorn with eight threads": _GUNICORN + " --threads=8",
    "gunicorn with 64 threads": _GUNICORN + " --threads=64",
    "gunicorn with gevent": _GUNICORN + " --worker-class=gevent",
    "gunicorn of four, forked late": _GUNICORN + " --workers=4 --preload",
    "waitress": "waitress --listen=127.0.0.1:{port} {module}:wsgi",
    "granian for WSGI": _GRANIAN + "=wsgi --blocking-threads=4 {module}:wsgi",
    "wsgiref": "{module} {port}",
}


class Served(NamedTuple):
    """A running server: its port, its first process, and its log."""

    port: int
    pid: int
    log: Path


@contextmanager
def serving(server: str, module: str, log: Path, **environ: str) -> Iterator[Served]:
    """Serve `module` for as long as the context lasts."""
    for _ in range(3):  # another process may take the port meanwhile
        with _running(_line(server, module, port := _free_port()), log, environ) as process:
            if _listens(process, port):
                yield Served(port, process.pid, log)
                return
    raise RuntimeError(f"{server} did not start:\n{log.read_text()}")


def _line(server: str, module: str, port: int) -> list[str]:
    words = COMMANDS[server].format(module=module, port=port)
    return [sys.executable, "-m", *words.split()]


@contextmanager
def _running(
    line: list[str], log: Path, environ: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with (
        log.open("wb") as out,
        subprocess.Popen(
            line,
            cwd=FOLDER,
            env=_environment(log.parent) | environ,
            stdout=out,
            stderr=out,
            start_new_session=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            _stop(process)


def _environment(home: Path) -> dict[str, str]:
    # The applications are imported from the current folder.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port):
            return True
        time.sleep(0.05)
    return False


def _answers(port: int) -> bool:
    # gunicorn listens before its application is loaded, so only a response counts.
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/1.")
    except OSError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
