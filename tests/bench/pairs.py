"""Interleaved pairs of measurements, and the interval of their median: what drifts hits both sides of a pair alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap


@dataclass(frozen=True)
class Interval:
    """A median and its 95 % bootstrap interval, in the unit of the values it was made of."""

    median: float
    low: float
    high: float

    def reaches(self, bar: float) -> bool:
        """True when the interval's upper end is at or above `bar` (bigger is better)."""
        return self.high >= bar

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def interval(values: Sequence[float]) -> Interval:
    """The median of `values` with a 95 % percentile-bootstrap interval, the same for the same values.

    Raises ValueError when there are fewer than two values.
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    sample = np.asarray(values, dtype=float)
    found = bootstrap(
        (sample,),
        np.median,
        confidence_level=0.95,
        n_resamples=9999,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(1),
    ).confidence_interval
    return Interval(float(np.median(sample)), float(found.low), float(found.high))


def interleave(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> tuple[list[float], list[float]]:
    """Measure `ours` and `theirs` in `pairs` pairs, first goer alternating; returns both lists, pair by pair."""
    left: list[float] = []
    right: list[float] = []
    for pair in range(pairs):
        if pair % 2 == 0:
            left.append(ours())
            right.append(theirs())
        else:
            right.append(theirs())
            left.append(ours())
    return left, right


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, pair by pair."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]
