"""The growth of a server's memory during an upload of 1 GB, with the middleware and without.

The peak of the server's resident memory, from Linux.
"""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Figures, Row
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIZE = 1 << 30
_PIECE = b"x" * (1 << 18)
_TICKET, _RANDSTR = f"tr03{'x' * 120}*", "@a1b"
_BOUNDARY = "----bench"
_FORM = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
_PAIR = f"X-Captcha-Ticket: {_TICKET}\r\nX-Captcha-Randstr: {_RANDSTR}\r\n"


def _field(name: str, value: str) -> str:
    return f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'


_FILE = (
    f"--{_BOUNDARY}\r\nContent-Disposition: form-data; "
    'name="file"; filename="big"\r\nContent-Type: application/octet-stream\r\n\r\n'
)
_FIRST = _field("ticket", _TICKET) + _field("randstr", _RANDSTR) + _FILE


def rows() -> Iterator[Row]:
    """Measure all, on Linux."""
    if not Path("/proc/self/status").exists():
        print("skipped: uploads: only Linux tells the peak", file=sys.stderr)
        return
    grown = {
        "bare": Figures((_upload("bare", _FORM, _FILE),), "one upload"),
        "ours, pair in headers": Figures(
            (_upload("gated", _FORM + _PAIR, _FILE),), "one upload"
        ),
        "ours, pair in the first parts": Figures(
            (_upload("gated", _FORM, _FIRST),), "one upload"
        ),
    }
    name = "ours, pair in the first parts"
    yield Row("upload of 1 GB, growth of uvicorn", "KiB", grown, name)


def _upload(app: str, headers: str, start: str) -> float:
    """Return the growth in KiB; a first, small upload allocates what is needed only once."""
    with serving("uvicorn", app) as (port, process):
        _send(port, headers, start, 1 << 24)
        before = _peak(process)
        _send(port, headers, start, _SIZE)
        return _peak(process) - before


def _send(port: int, headers: str, start: str, size: int) -> None:
    end = f"\r\n--{_BOUNDARY}--\r\n"
    length = len(start) + size + len(end)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{headers}\r\n"
        connection.sendall(f"{head}{start}".encode())
        for _ in range(size // len(_PIECE)):
            connection.sendall(_PIECE)
        connection.sendall(end.encode())
        answer = connection.recv(65536)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer)


def _peak(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    match = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert match is not None
    return float(match[1])
