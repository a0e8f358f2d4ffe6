"""Medians and ratios over repeats, each with an interval and the coverage it has at that number of repeats.

The interval of a median goes from one order statistic to another: of n independent values the k-th smallest and the k-th largest
enclose the median unless fewer than k lie on one side of it, which is binomial whatever the distribution. k is the largest that
still reaches the level asked for; where none does, the interval is the range and has the coverage that `coverage` gives: 75 % for
3 repeats, 97 % for 6. The interval of a ratio of two medians goes from low / high to high / low of theirs; its coverage is the
product of both, for the two sides are independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import comb, isfinite, sqrt

import numpy as np

LEVEL = 0.95
"""Coverage that intervals are made for, where there are enough repeats."""


@dataclass(frozen=True)
class Estimate:
    """A value from `n` repeats (or pairs of them), and its interval; `low` and `high` are None where there is none: one repeat
    has no spread. `coverage`: probability with which such an interval holds the true value, 0 without one."""

    value: float
    low: float | None
    high: float | None
    n: int
    coverage: float = field(default=0.0, compare=False)

    def includes(self, value: float) -> bool:
        """Whether the interval holds `value`; without an interval nothing is excluded."""
        return self.low is None or self.high is None or self.low <= value <= self.high

    def within(self, low: float, high: float) -> bool:
        """Whether the whole interval lies in `low`..`high`; False without one."""
        return self.low is not None and self.high is not None and low <= self.low and self.high <= high


def median(values: Iterable[float | None], level: float = LEVEL) -> Estimate | None:
    """The median of the values that are not null; None if all are. `level`: the coverage asked for."""
    rising = _rising(values)
    if not rising:
        return None
    low, high, covered = _interval(rising, level)
    return Estimate(_middle(rising), low, high, len(rising), covered)


def paired_ratio(pairs: Iterable[tuple[float | None, float | None]], level: float = LEVEL) -> Estimate | None:
    """Median over repeats of `other / base`, both of one repeat; pairs that lack one, or whose base is 0, do not count. Its
    interval is that of the sign test."""
    return median((other / base for base, other in pairs if base and other is not None), level)


def unpaired_ratio(base: Iterable[float | None], other: Iterable[float | None], level: float = LEVEL) -> Estimate | None:
    """Median of `other` / median of `base`, of repeats that were not run beside each other. `n`: of the side with fewer.

    There is no interval where one side has one repeat, or where the interval of `base` reaches down to 0.
    """
    below, above = _rising(base), _rising(other)
    if not below or not above or not _middle(below):
        return None
    ratio, n = _middle(above) / _middle(below), min(len(below), len(above))
    base_low, base_high, base_covered = _interval(below, sqrt(level))
    low, high, covered = _interval(above, sqrt(level))
    if base_low is None or base_high is None or low is None or high is None or base_low <= 0 or low < 0:
        return Estimate(ratio, None, None, n)
    return Estimate(ratio, low / base_high, high / base_low, n, base_covered * covered)


@lru_cache(maxsize=1024)
def coverage(n: int, level: float = LEVEL) -> float:
    """The coverage that the interval of a median of n repeats has when `level` is asked for; less than `level` where n is too
    small for it, 0 for one repeat."""
    return 1 - 2 * _tail(n, _rank(n, level)) if n > 1 else 0.0


def repeats_for(level: float) -> int:
    """The fewest repeats whose interval reaches `level`."""
    return next(n for n in range(2, 1000) if coverage(n, level) >= level)


def two_groups(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The medians of two clusters of repeats, if there are two: at least two repeats in each, the gap between them more than a
    third of the lower one and more than three times the spread within either. None if there are not."""
    there = np.array(_rising(values))
    if len(there) < 4 or there[0] <= 0:
        return None
    gaps = np.diff(np.log(there))
    at = int(np.argmax(gaps))
    lower, upper = there[: at + 1], there[at + 1 :]
    within = max(np.log(lower[-1] / lower[0]), np.log(upper[-1] / upper[0]))
    if min(len(lower), len(upper)) < 2 or gaps[at] < max(np.log(4 / 3), 3 * within):
        return None
    return float(np.median(lower)), float(np.median(upper))


def _rising(values: Iterable[float | None]) -> list[float]:
    return sorted(float(value) for value in values if value is not None and isfinite(value))


def _middle(rising: Sequence[float]) -> float:
    n = len(rising)
    return (rising[(n - 1) // 2] + rising[n // 2]) / 2


def _interval(rising: Sequence[float], level: float) -> tuple[float | None, float | None, float]:
    """Low and high end, and coverage."""
    n = len(rising)
    if n < 2:
        return None, None, 0.0
    rank = _rank(n, level)
    return rising[rank - 1], rising[n - rank], coverage(n, level)


@lru_cache(maxsize=1024)
def _rank(n: int, level: float) -> int:
    """The largest k whose interval, k-th smallest to k-th largest of n, has the coverage `level`; 1 where none has."""
    rank = 1
    while rank < n // 2 and 1 - 2 * _tail(n, rank + 1) >= level:
        rank += 1
    return rank


def _tail(n: int, rank: int) -> float:
    """The probability that fewer than `rank` of n values lie below the median."""
    return sum(comb(n, k) for k in range(rank)) / (1 << n)
