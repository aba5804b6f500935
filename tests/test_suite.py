"""The tests themselves: no test sleeps longer than a second, and hypothesis has no deadline."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import settings

TESTS = Path(__file__).parent
SLEEP = re.compile(r"\b(?:time|asyncio|anyio|trio)\.sleep\(([0-9.]+)\)")
# Programs in other processes, which hang until they are ended.
HANGING = {
    "health/test_health.py",
    "verifiers/test_threadpool.py",
    "support/forking_health.py",
    "support/hostile_apps.py",
}


def test_no_test_sleeps_longer_than_a_second():
    long = {
        str(file.relative_to(TESTS))
        for file in TESTS.rglob("*.py")
        if file.parent.name != "hostile"  # visitors over time, on real servers
        for seconds in SLEEP.findall(file.read_text())
        if float(seconds) > 1
    }
    assert long == HANGING


def test_hypothesis_runs_without_deadlines():
    assert settings.default.deadline is None
    own = [file.name for file in TESTS.rglob("test_*.py") if "deadline=" in file.read_text()]
    assert own == [Path(__file__).name]
