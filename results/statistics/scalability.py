"""The Universal Scalability Law (N. J. Gunther, 2007), fitted to rates by number of vCPUs.

    rate(n) = one * n / (1 + contention * (n - 1) + coherence * n * (n - 1))

`contention` is the share of the work that cannot go on side by side, `coherence` what every pair of vCPUs costs each other: with
it the rate has a peak, at sqrt((1 - contention) / coherence), and falls beyond. n / rate is linear in the terms, so SciPy's
non-negative least squares fit it, by the relative error, to each repeat alone. A term is the median of those fits, and its
interval the exact one of a median. What is read off beyond the largest number measured is a prediction and not a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from results.statistics.intervals import Estimate, median

PREDICTED = (64, 256)
"""Numbers of vCPUs for which the law is asked."""
FEWEST_POINTS = 4
"""Numbers of vCPUs it takes: three terms leave one to disagree."""

_LEAST = 1e-9
"""What is left of one vCPU's time per page, at least, where a fit would have nothing left of it."""
Terms = tuple[float, float, float]


@dataclass(frozen=True)
class Law:
    """`one`: rate of one vCPU; `predictions`: rate by number of vCPUs beyond `largest`, the largest number measured;
    `error`: the largest relative distance of a median from the curve."""

    one: Estimate
    contention: Estimate
    coherence: Estimate
    predictions: Mapping[int, Estimate]
    largest: float
    error: float
    fits: tuple[Terms, ...]

    @property
    def peak(self) -> float | None:
        """The number of vCPUs from which the fitted rate falls; None where it does not."""
        if self.coherence.value <= 0:
            return None
        return sqrt(max(0.0, 1 - self.contention.value) / self.coherence.value)

    def rate(self, n: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The fitted rate: at each number the median of the repeats' curves."""
        return np.array([one.value for one in _at(self.fits, n)])

    def band(self, n: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Lower and upper bound of the rate; the rate itself where one repeat has no spread."""
        found = _at(self.fits, n)
        low = [one.value if one.low is None else one.low for one in found]
        high = [one.value if one.high is None else one.high for one in found]
        return np.array(low), np.array(high)


def rate(n: npt.NDArray[np.float64], one: float, contention: float, coherence: float) -> npt.NDArray[np.float64]:
    """The law."""
    return one * n / (1 + contention * (n - 1) + coherence * n * (n - 1))


def fit(rates: Mapping[float, Sequence[float]]) -> Law | None:
    """Fit the law to rates by number of vCPUs, each in the order of the repeats. None for fewer than FEWEST_POINTS numbers."""
    points = {n: np.array(values, np.float64) for n, values in sorted(rates.items()) if len(values) and min(values) > 0}
    if len(points) < FEWEST_POINTS:
        return None
    fits = tuple(_fit({n: values[repeat] for n, values in points.items()}) for repeat in range(min(map(len, points.values()))))
    numbers = np.array(list(points), np.float64)
    largest = float(numbers.max())
    one, contention, coherence = (_estimate([terms[i] for terms in fits]) for i in range(3))
    beyond = [n for n in PREDICTED if n > largest]
    predictions = dict(zip(beyond, _at(fits, np.array(beyond, np.float64)), strict=True))
    fitted = np.array([point.value for point in _at(fits, numbers)])
    error = float(np.max(np.abs(fitted / np.array([np.median(values) for values in points.values()]) - 1)))
    return Law(one, contention, coherence, predictions, largest, error, fits)


def _at(fits: Sequence[Terms], numbers: npt.NDArray[np.float64]) -> list[Estimate]:
    """What the repeats' curves come to at each number of vCPUs."""
    curves = np.array([rate(numbers, *terms) for terms in fits])
    return [_estimate(list(values)) for values in curves.T]


def _estimate(values: Sequence[float]) -> Estimate:
    found = median(values)
    assert found is not None  # a fit is of numbers
    return found


def _fit(points: Mapping[float, float]) -> Terms:
    """n / rate = (1 - contention + contention * n + coherence * n * (n - 1)) / one, each of the three at least 0."""
    from scipy.optimize import nnls

    n = np.array(list(points), np.float64)
    time = n / np.array(list(points.values()), np.float64)
    (free, serial, pairs), _ = nnls(np.stack([np.ones_like(n), n, n * (n - 1)], axis=1) / time[:, None], np.ones_like(n))
    alone = max(free + serial, _LEAST * float(time.min()))
    return float(1 / alone), float(serial / alone), float(pairs / alone)
