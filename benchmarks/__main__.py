"""Measure everything and print one Markdown table: `tox run -e bench [-- middle calls ...]`.

Each figure is the median of several interleaved rounds, with the middle half beside it. Read
ratios rather than absolute figures: both sides of a ratio come from the same minute of the same
machine.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from measure import Budget, Figures, Row

PARTS = (
    "middle",
    "calls",
    "replay",
    "waiting",
    "servers",
    "instructions",
    "uploads",
    "startup",
)
_PACKAGES = (
    "tcaptcha-middleware",
    "aiohttp",
    "anyio",
    "asgi-csrf",
    "granian",
    "httptools",
    "httpx",
    "httpx-aiohttp",
    "httpx2",
    "redis",
    "starlette",
    "starlette-csrf",
    "tencentcloud-sdk-python-captcha",
    "tencentcloud-sdk-python-common",
    "trio",
    "uvicorn",
)

# From here on, decimals are noise.
_WHOLE = 100


def main() -> None:
    """Run the named parts, or all."""
    began = time.monotonic()
    print(f"CPython {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores")
    print(", ".join(f"{name} {_version(name)}" for name in _PACKAGES), end="\n\n")
    print("| what | who | median | middle half | to ours | budget |")
    print("|---|---|--:|--:|--:|---|", flush=True)
    for part in sys.argv[1:] or PARTS:
        for row in import_module(part).rows():
            _print(row)
    print(f"\n{time.monotonic() - began:.0f} seconds in all")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _print(row: Row) -> None:
    ours = row.figures[row.ours]
    for name, figures in row.figures.items():
        is_ours = name == row.ours
        low, high = figures.quartiles
        cells = (
            row.what if name == next(iter(row.figures)) else "",
            f"**{name}**" if is_ours else name,
            f"{_number(figures.median)} {row.unit}",
            f"{_number(low)} to {_number(high)}{figures.note and f'; {figures.note}'}",
            f"{figures.over(ours):.2f}",
            _budget(row.budget, figures) if is_ours and row.budget else "",
        )
        print(f"| {' | '.join(cells)} |", flush=True)


def _budget(budget: Budget, figures: Figures) -> str:
    word = "met" if budget.is_met_by(figures) else "missed"
    bound = "at least" if budget.more else "at most"
    set_at = f"{_number(budget.limit)} if that is {_number(budget.was)}"
    share = figures.over(budget.peer)
    return f"{bound} {budget.share:.2f} of {budget.who} ({set_at}): {share:.2f}, {word}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _WHOLE else f"{value:.2f}"


if __name__ == "__main__":
    main()
