"""Interleaved rounds: every contender is measured in every round, so noise affects all."""

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
        note: A remark.
    """

    values: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and upper quartile."""
        if len(self.values) == 1:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def minus(self, base: Figures) -> Figures:
        """Return the difference to `base`, round by round."""
        pairs = zip(self.values, base.values, strict=True)
        return Figures(tuple(own - other for own, other in pairs), self.note)

    def over(self, base: Figures) -> float:
        """Return the ratio to `base`: the median of the rounds' ratios."""
        pairs = zip(self.values, base.values, strict=True)
        ratios = [own / other for own, other in pairs if other]
        return statistics.median(ratios) if ratios else math.nan


@dataclass(frozen=True, slots=True)
class Budget:
    """The highest cost, or the lowest rate, that is acceptable for ours.

    It was set on one machine, together with a peer's figure, so it is a share of that peer. The
    peer is also measured here, round by round, which accounts for the speed and load of this
    machine.

    Attributes:
        limit: The budget on that machine.
        was: The peer's figure on that machine.
        peer: The peer's figures here.
        who: The peer's name.
        more: If more is better.
    """

    limit: float
    was: float
    peer: Figures
    who: str
    more: bool = False

    @property
    def share(self) -> float:
        """The budget as a share of the peer's figure."""
        return self.limit / self.was

    def is_met_by(self, figures: Figures) -> bool:
        """Return if the median of the rounds' shares is within the budget."""
        share = figures.over(self.peer)
        return share >= self.share if self.more else share <= self.share


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, for several contenders.

    Attributes:
        what: What was measured.
        unit: What the figures count.
        figures: By contender.
        ours: The contender that the others are compared with.
        budget: The limit for ours.
    """

    what: str
    unit: str
    figures: Mapping[str, Figures] = field(repr=False)
    ours: str
    budget: Budget | None = None


def interleaved(
    takes: Mapping[str, Callable[[], float]], rounds: int
) -> dict[str, tuple[float, ...]]:
    """Measure in rounds, every other one in reverse order, after one round that warms up.

    A contender that fails while warming up is left out, and reported on standard error.
    """
    able = {name: take for name, take in takes.items() if _works(name, take)}
    figures: dict[str, list[float]] = {name: [] for name in able}
    for turn in range(rounds):
        for name in list(able)[:: -1 if turn % 2 else 1]:
            gc.collect()
            figures[name].append(able[name]())
    return {name: tuple(values) for name, values in figures.items()}


def _works(name: str, take: Callable[[], float]) -> bool:
    try:
        take()
    except Exception as error:
        print(f"skipped: {name}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True
