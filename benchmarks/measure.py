"""Interleaved rounds: every contender is measured in every round, so that noise hits all."""

from __future__ import annotations

import gc
import math
import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Figures:
    """One contender's figures, round by round.

    Attributes:
        values: The figures.
        note: What else there is to say.
    """

    values: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Between these lies the middle half."""
        if len(self.values) == 1:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def minus(self, base: Figures) -> Figures:
        """Return what was added to `base`, each round against its own."""
        pairs = zip(self.values, base.values, strict=True)
        return Figures(tuple(own - other for own, other in pairs), self.note)

    def over(self, base: Figures) -> float:
        """Return the ratio to `base`: the median of the rounds', each against its own."""
        pairs = zip(self.values, base.values, strict=True)
        ratios = [own / other for own, other in pairs if other]
        return statistics.median(ratios) if ratios else math.nan


@dataclass(frozen=True, slots=True)
class Budget:
    """What ours may take at most, or has to make at least.

    It was set on one machine, with a peer measured beside it, and so it is a share of that
    peer: measured beside ours here, round by round, it tells what this machine can do, and
    what it could do in that very moment.

    Attributes:
        limit: The budget where it was set.
        was: The peer's figure there.
        peer: The peer's figures here.
        who: The peer's name.
        more: Whether more is better.
    """

    limit: float
    was: float
    peer: Figures
    who: str
    more: bool = False

    @property
    def share(self) -> float:
        """What it comes to of the peer."""
        return self.limit / self.was

    def is_met_by(self, figures: Figures) -> bool:
        """Tell whether the median of the rounds' shares is within it."""
        share = figures.over(self.peer)
        return share >= self.share if self.more else share <= self.share


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured, for several contenders.

    Attributes:
        what: The thing.
        unit: What the figures count.
        figures: By contender.
        ours: The contender that the others are compared with.
        budget: What is wanted of ours.
    """

    what: str
    unit: str
    figures: Mapping[str, Figures] = field(repr=False)
    ours: str
    budget: Budget | None = None


def interleaved(
    takes: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, tuple[float, ...]]:
    """Take figures in rounds, every other one backwards, after one round that warms up.

    A contender that fails while warming up is left out, and said so on standard error.
    """
    able = {name: take for name, take in takes.items() if _works(name, take)}
    found: dict[str, list[float]] = {name: [] for name in able}
    for turn in range(rounds):
        for name in list(able)[:: -1 if turn % 2 else 1]:
            gc.collect()
            found[name].append(able[name]())
    return {name: tuple(values) for name, values in found.items()}


def _works(name: str, take: Callable[[], float]) -> bool:
    try:
        take()
    except Exception as error:
        print(f"skipped: {name}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True
