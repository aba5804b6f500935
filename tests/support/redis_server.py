"""A real Redis on a free loopback port, which can be stopped, frozen and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

BINARY = shutil.which("redis-server")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


class RedisServer:
    """One redis-server process; it leaves nothing on disk.

    Args:
        options: More of its options, such as `"--maxmemory", "3mb"`.
        binary: `redis-sentinel` for a Sentinel, whose first option is its configuration file.
    """

    def __init__(self, *options: str, binary: str | None = BINARY) -> None:
        self._options, self._binary = options, binary
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1"]
        # A replica writes what its master sends, and the next server there would load it.
        self._folder = tempfile.mkdtemp(prefix="redis-")
        if self._binary == BINARY:
            words += ["--save", "", "--dir", self._folder]
            words += ["--repl-diskless-sync-delay", "0"]
        command = [self._binary, *self._options, *words]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def command(self, *words: str) -> str:
        run = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module")
def redis_server():
    if BINARY is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer()
    yield server
    server.kill()
