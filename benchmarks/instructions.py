"""The instructions of a request through uvicorn, counted by valgrind.

Other work on the machine does not change them. They do not include waits for memory.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from measure import Budget, Figures, Row
from servers import COVERED
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VALGRIND = (
    "valgrind",
    "--tool=cachegrind",
    "--cache-sim=no",
    "--cachegrind-out-file=/dev/null",
)
_FEW, _MANY = 500, 2500
_HEAD = (
    "Host: 127.0.0.1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n"
    "Origin: https://shop.example\r\nContent-Length: 0\r\n"
)
_PAIR = f"X-Captcha-Ticket: tr03{'x' * 120}*\r\nX-Captcha-Randstr: @a1b\r\n"
_UNCOVERED = {
    "bare": "bare",
    "no-op middleware": "no_op",
    "CORSMiddleware": "cors",
    "ours, a rule of another method": "gated",
}


def rows() -> Iterator[Row]:
    """Count all, if valgrind is installed."""
    if shutil.which(_VALGRIND[0]) is None:
        print("skipped: instructions: valgrind is not installed", file=sys.stderr)
        return
    uncovered = _counted(_UNCOVERED, f"GET /items/42 HTTP/1.1\r\n{_HEAD}\r\n")
    ours = "ours, a rule of another method"
    budget = Budget(1.02, 1, uncovered["bare"], "bare")
    yield Row(
        "a request through uvicorn, uncovered, counted", "instructions", uncovered, ours, budget
    )
    covered = _counted(COVERED, f"POST /login HTTP/1.1\r\n{_HEAD}{_PAIR}\r\n")
    base = covered.pop("bare")
    added = {name: figures.minus(base) for name, figures in covered.items()}
    budget = Budget(1.5, 1, added["CORSMiddleware"], "CORSMiddleware")
    yield Row(
        "a request through uvicorn, covered, added, counted",
        "instructions",
        added,
        "ours",
        budget,
    )


def _counted(apps: Mapping[str, str], request: str) -> dict[str, Figures]:
    # What the server and the interpreter do once cancels out.
    return {
        name: Figures(((_of(app, request, _MANY) - _of(app, request, _FEW)) / (_MANY - _FEW),))
        for name, app in apps.items()
    }


def _of(app: str, request: str, times: int) -> int:
    """Return the instructions of a server that answers so many requests."""
    with TemporaryDirectory() as folder:
        log = Path(folder, "valgrind")
        with (
            serving("uvicorn", app, *_VALGRIND, f"--log-file={log}") as (port, _),
            socket.create_connection(("127.0.0.1", port)) as connection,
        ):
            for _ in range(times):
                connection.sendall(request.encode())
                answer = b""
                while not answer.endswith(b"\r\n\r\nok"):
                    answer += connection.recv(65536)
        match = re.search(r"I\s+refs:\s+([\d,]+)", log.read_text())
    if match is None:
        raise RuntimeError(f"valgrind counted nothing for {app}")
    return int(match[1].replace(",", ""))
