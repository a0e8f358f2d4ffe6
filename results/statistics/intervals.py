"""Medians and speed-ups over repeats, each with the interval that its repeats support. SciPy resamples.

The interval is a percentile bootstrap at LEVEL. With few repeats no method can promise so much: the range of n repeats holds
the median with probability 1 - 2^(1-n), which is 75 % for 3 and reaches LEVEL with 6. `coverage` says what n can promise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb, isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 1_999
_SEED = 1


@dataclass(frozen=True)
class Estimate:
    """A value from `n` repeats (or pairs of them); `low` and `high` are None where one repeat says nothing of its spread."""

    value: float
    low: float | None
    high: float | None
    n: int

    def includes(self, value: float) -> bool:
        """Whether the interval holds `value`; one without an interval excludes nothing."""
        return self.low is None or self.high is None or self.low <= value <= self.high


def median(values: Iterable[float | None]) -> Estimate | None:
    """The median of the values that are there; None if none is."""
    there = _there(values)
    if not len(there):
        return None
    return Estimate(float(np.median(there)), *_bootstrap((there,), _median), len(there))


def paired_ratio(pairs: Iterable[tuple[float | None, float | None]]) -> Estimate | None:
    """Median over repeats of `other / base`, both of one repeat; pairs that lack one, or whose base is 0, do not count."""
    return median(other / base for base, other in pairs if base and other is not None)


def unpaired_ratio(base: Iterable[float | None], other: Iterable[float | None]) -> Estimate | None:
    """Median of `other` / median of `base`, repeats that were not run beside each other. `n`: of the side with fewer."""
    below, above = _there(base), _there(other)
    if not len(below) or not len(above) or not np.median(below):
        return None
    low, high = _bootstrap((below, above), _ratio_of_medians)
    return Estimate(float(np.median(above) / np.median(below)), low, high, min(len(below), len(above)))


def coverage(n: int) -> float:
    """The most that an interval from n repeats can promise to hold the median: their range's share, at most LEVEL."""
    return min(LEVEL, 1 - 2.0 ** (1 - n)) if n > 1 else 0.0


def chance(n: int, paired: bool) -> float:
    """How often two sides that are equal are told apart by chance: all of n pairs on one side of 1, or all of one side's
    repeats above all of the other's; at least 1 - LEVEL."""
    by_range = 2.0 ** (1 - n) if paired else 2 / comb(2 * n, n)
    return max(1 - LEVEL, by_range) if n > 1 else 0.0


def two_groups(values: Sequence[float | None]) -> tuple[float, float] | None:
    """The medians of two groups that repeats fall in, if they do: at least two in each, the gap between them more than a third
    of the lower one and more than three times the spread within either. None if they do not."""
    there = np.sort(_there(values))
    if len(there) < 4 or there[0] <= 0:
        return None
    gaps = np.diff(np.log(there))
    at = int(np.argmax(gaps))
    lower, upper = there[: at + 1], there[at + 1 :]
    within = max(np.log(lower[-1] / lower[0]), np.log(upper[-1] / upper[0]))
    if min(len(lower), len(upper)) < 2 or gaps[at] < max(np.log(4 / 3), 3 * within):
        return None
    return float(np.median(lower)), float(np.median(upper))


def _there(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    return np.array([value for value in values if value is not None and isfinite(value)], np.float64)


def _median(sample: npt.NDArray[np.float64], axis: int = -1) -> Any:
    return np.median(sample, axis=axis)


def _ratio_of_medians(base: npt.NDArray[np.float64], other: npt.NDArray[np.float64], axis: int = -1) -> Any:
    return np.median(other, axis=axis) / np.median(base, axis=axis)


def _bootstrap(samples: tuple[npt.NDArray[np.float64], ...], statistic: Any) -> tuple[float | None, float | None]:
    if min(map(len, samples)) < 2:
        return None, None
    from scipy.stats import bootstrap  # most of a second to import, which a single run does not need

    found = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(found.low), float(found.high)
