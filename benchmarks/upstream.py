"""A raw upstream in a separate process: every POST gets one fixed answer, with keep-alive.

Run as a script it serves until it is ended: `python upstream.py SECONDS_OF_LATENCY [PEM]`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERDICT = json.dumps(
    {
        "Response": {
            "CaptchaCode": 1,
            "CaptchaMsg": "OK",
            "EvilLevel": 0,
            "GetCaptchaTime": 1583749870,
            "EvilBitmap": 0,
            "SubmitCaptchaTime": 1583749871,
            "DeviceRiskCategory": None,
            "RequestId": "7f9c8f5e-3d4b-4a57-9f0e-1f3f8b2c6d10",
        }
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    % (len(_VERDICT), _VERDICT)
)


@contextmanager
def upstream(latency: float = 0, pem: str = "") -> Iterator[str]:
    """Serve from another process during the context; yields its origin."""
    command = [sys.executable, __file__, str(latency), *([pem] if pem else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield f"https://localhost:{port}" if pem else f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class _Canned(asyncio.Protocol):
    """Reads as little of HTTP/1.1 as is needed to find the end of a request."""

    latency = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._got = b""

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, separator, body = self._got.partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        length = int(lower.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self._got = b""
        last = b"\r\nconnection: close" in lower
        if self.latency:
            loop = asyncio.get_running_loop()
            loop.call_later(self.latency, self._answer, last)
        else:
            self._answer(last)

    def _answer(self, last: bool) -> None:
        self._transport.write(_ANSWER)
        if last:
            self._transport.close()


async def _serve() -> None:
    _Canned.latency = float(sys.argv[1])
    tls = None
    if sys.argv[2:]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[2])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Canned, "127.0.0.1", 0, ssl=tls, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
