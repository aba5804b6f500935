"""Whole requests a second through real servers, under wrk: with the middleware and without."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from measure import Budget, Figures, Row, interleaved
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 3
_PAIR = ("-H", f"X-Captcha-Ticket: tr03{'x' * 120}*", "-H", "X-Captcha-Randstr: @a1b")


def rows() -> Iterator[Row]:
    """Measure all, where wrk is installed."""
    if shutil.which("wrk") is None:
        print("skipped: servers: wrk is not installed", file=sys.stderr)
        return
    for server in ("uvicorn", "granian"):
        with ExitStack() as stack:
            ungated, _ = stack.enter_context(serving(server, "bare"))
            gated, _ = stack.enter_context(serving(server, "gated"))
            takes = {
                "bare, GET": _Take(ungated, "/items/42"),
                "ours, uncovered": _Take(gated, "/items/42"),
                "bare, POST": _Take(ungated, "/login", covered=True),
                "ours, covered": _Take(gated, "/login", covered=True),
            }
            found = interleaved(takes, ROUNDS)
        figures = {name: Figures(rates) for name, rates in found.items()}
        for bare, ours, share in (
            ("bare, GET", "ours, uncovered", 0.98),
            ("bare, POST", "ours, covered", 0.9),
        ):
            shown = {name: figures[name] for name in (bare, ours)}
            budget = Budget(share, 1, figures[bare], "bare", more=True)
            yield Row(f"requests through {server}", "a second", shown, ours, budget)


class _Take:
    """Requests a second that wrk sees answered."""

    def __init__(self, port: int, path: str, *, covered: bool = False) -> None:
        method = ("-s", "/dev/stdin", *_PAIR) if covered else ()
        url = f"http://127.0.0.1:{port}{path}"
        self._command = ["wrk", "-t1", "-c32", "-d1s", *method, url]

    def __call__(self) -> float:
        done = subprocess.run(
            self._command,
            input='wrk.method = "POST"',
            capture_output=True,
            text=True,
            check=True,
        )
        found = re.search(r"Requests/sec:\s*([\d.]+)", done.stdout)
        if found is None or "Non-2xx" in done.stdout:
            raise RuntimeError(done.stdout)
        return float(found[1])
