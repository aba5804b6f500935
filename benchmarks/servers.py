"""The cost of a request for a real server under wrk, with the middleware and without.

The rate of requests varies from one second to the next by more than the difference to measure.
So all contenders run at once, on the same core, each with its own wrk, and the result is each
server's processor time per request: noise affects all alike. Every round starts new processes,
because the layout of memory also makes a difference of some percent.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Budget, Figures, Row
from serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROUNDS = 9
_ORIGIN = ("-H", "Origin: https://shop.example")
_PAIR = (*_ORIGIN, "-H", f"X-Captcha-Ticket: tr03{'x' * 120}*", "-H", "X-Captcha-Randstr: @a1b")
_UNCOVERED = {
    "bare": "bare",
    "no-op middleware": "no_op",
    "TrustedHostMiddleware": "trusted_host",
    "CORSMiddleware": "cors",
    "ours, a rule for every method": "gated_for_every_method",
    "ours, a rule of another method": "gated",
}
COVERED = {
    "bare": "bare",
    "CORSMiddleware": "cors",
    "a check by hand": "by_hand",
    "ours": "gated",
}
_TICKS = os.sysconf("SC_CLK_TCK")


def rows() -> Iterator[Row]:
    """Measure all, if wrk is installed."""
    if shutil.which("wrk") is None:
        print("skipped: servers: wrk is not installed", file=sys.stderr)
        return
    for server in ("uvicorn", "granian"):
        uncovered = _measured(server, _UNCOVERED, "/items/42")
        budget = Budget(1.02, 1, uncovered["bare"], "bare")
        ours = "ours, a rule of another method"
        yield Row(f"a request through {server}, uncovered", "us", uncovered, ours, budget)
        covered = _measured(server, COVERED, "/login", *_PAIR)
        base = covered.pop("bare")
        added = {name: figures.minus(base) for name, figures in covered.items()}
        budget = Budget(1.5, 1, added["CORSMiddleware"], "CORSMiddleware")
        yield Row(f"a request through {server}, covered, added", "us", added, "ours", budget)


def _measured(
    server: str, apps: Mapping[str, str], path: str, *headers: str
) -> dict[str, Figures]:
    figures: dict[str, list[float]] = {name: [] for name in apps}
    for turn in range(ROUNDS):
        order = dict(list(apps.items())[:: -1 if turn % 2 else 1])
        for name, figure in _round(server, order, path, *headers).items():
            figures[name].append(figure)
    return {name: Figures(tuple(values)) for name, values in figures.items()}


def _round(server: str, apps: Mapping[str, str], path: str, *headers: str) -> dict[str, float]:
    """Return microseconds of processor time per request, by contender."""
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(serving(server, app)) for name, app in apps.items()
        }
        trees = {name: _tree(process) for name, (_, process) in running.items()}
        _share_a_core([process for tree in trees.values() for process in tree])
        urls = {name: f"http://127.0.0.1:{port}{path}" for name, (port, _) in running.items()}
        _answered(urls, 1, *headers)
        before = {name: _seconds(tree) for name, tree in trees.items()}
        answered = _answered(urls, 2, *headers)
        return {
            name: (_seconds(tree) - before[name]) / answered[name] * 1e6
            for name, tree in trees.items()
        }


def _answered(urls: Mapping[str, str], seconds: int, *headers: str) -> dict[str, int]:
    """Return how many requests each of the servers answered meanwhile."""
    loads = [(name, _load(url, seconds, *headers)) for name, url in urls.items()]
    return {name: _count(load) for name, load in loads}


def _load(url: str, seconds: int, *headers: str) -> subprocess.Popen[str]:
    method = ("-s", str(Path(__file__).with_name("post.lua"))) if headers else ()
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", *method, *headers, url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _count(load: subprocess.Popen[str]) -> int:
    output, _ = load.communicate()
    match = re.search(r"(\d+) requests in", output)
    if match is None or "Non-2xx" in output:
        raise RuntimeError(output)
    return int(match[1])


def _share_a_core(processes: list[int]) -> None:
    first = min(os.sched_getaffinity(0))
    for process in processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {first})


def _tree(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(one for child in children for one in _tree(int(child)))]


def _seconds(processes: list[int]) -> float:
    """Return the processor time of processes so far, in seconds (proc(5), stat)."""
    stats = [Path(f"/proc/{process}/stat").read_text() for process in processes]
    return sum(
        int(tick) / _TICKS for stat in stats for tick in stat.rpartition(")")[2].split()[11:13]
    )
