"""A real Redis on a free loopback port, which can be stopped, frozen and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time

import pytest

BINARY = shutil.which("redis-server")


class RedisServer:
    """One redis-server process; it keeps nothing on disk."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"]
        self._process = subprocess.Popen([BINARY, *words], stdout=subprocess.DEVNULL)
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

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

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
