"""The Universal Scalability Law (N. J. Gunther, 2007), fitted to rates by number of vCPUs.

    rate(n) = one * n / (1 + contention * (n - 1) + coherence * n * (n - 1))

`contention` is the share of the work that cannot go on side by side, `coherence` what every pair of vCPUs costs each other: with
it the rate has a peak, at sqrt((1 - contention) / coherence), and falls beyond. n / rate is linear in the terms, so SciPy's
non-negative least squares fit it to all repeats, by the relative error. The interval comes from fits to repeats drawn anew. What
is read off beyond the largest number measured is a prediction and not a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from results.statistics.intervals import LEVEL, Estimate

PREDICTED = (64, 256)
"""Numbers of vCPUs for which the law is asked."""
FEWEST_POINTS = 4
"""Numbers of vCPUs it takes: three terms leave one to disagree."""

_RESAMPLES = 999
_LEAST = 1e-9
"""What is left of one vCPU's time per page, at least, where a fit would have nothing left of it."""
_SEED = 1
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
    resampled: tuple[Terms, ...]

    @property
    def peak(self) -> float | None:
        """The number of vCPUs from which the fitted rate falls; None where it does not."""
        if self.coherence.value <= 0:
            return None
        return sqrt(max(0.0, 1 - self.contention.value) / self.coherence.value)

    def rate(self, n: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The fitted rate."""
        return rate(n, self.one.value, self.contention.value, self.coherence.value)

    def band(self, n: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Lower and upper bound of the rate."""
        curves = np.array([rate(n, *terms) for terms in self.resampled])
        low, high = np.quantile(curves, _tails(), axis=0)
        return low, high


def rate(n: npt.NDArray[np.float64], one: float, contention: float, coherence: float) -> npt.NDArray[np.float64]:
    """The law."""
    return one * n / (1 + contention * (n - 1) + coherence * n * (n - 1))


def fit(rates: Mapping[float, Sequence[float]]) -> Law | None:
    """Fit the law to repeats' rates by number of vCPUs. None for fewer than FEWEST_POINTS numbers."""
    points = {n: np.array(values, np.float64) for n, values in sorted(rates.items()) if len(values) and min(values) > 0}
    if len(points) < FEWEST_POINTS:
        return None
    fitted = _fit(points)
    rng = np.random.default_rng(_SEED)
    drawn = [{n: rng.choice(values, len(values)) for n, values in points.items()} for _ in range(_RESAMPLES)]
    resampled = tuple(_fit(points) for points in drawn)
    numbers = np.array(list(points), np.float64)
    medians = np.array([np.median(values) for values in points.values()])
    repeats = min(map(len, points.values()))
    largest = float(numbers.max())

    def estimate(value: float, values: Sequence[float]) -> Estimate:
        if repeats < 2:
            return Estimate(value, None, None, repeats)
        low, high = np.quantile(values, _tails())
        return Estimate(value, float(low), float(high), repeats)

    one, contention, coherence = (estimate(value, [terms[i] for terms in resampled]) for i, value in enumerate(fitted))
    predictions = {
        n: estimate(float(rate(np.array([n]), *fitted)[0]), [float(rate(np.array([n]), *terms)[0]) for terms in resampled])
        for n in PREDICTED
        if n > largest
    }
    error = float(np.max(np.abs(rate(numbers, *fitted) / medians - 1)))
    return Law(one, contention, coherence, predictions, largest, error, resampled)


def _fit(points: Mapping[float, npt.NDArray[np.float64]]) -> Terms:
    """n / rate = (1 - contention + contention * n + coherence * n * (n - 1)) / one, each of the three at least 0."""
    from scipy.optimize import nnls

    n = np.concatenate([np.full(len(values), number, np.float64) for number, values in points.items()])
    time = n / np.concatenate(list(points.values()))
    (free, serial, pairs), _ = nnls(np.stack([np.ones_like(n), n, n * (n - 1)], axis=1) / time[:, None], np.ones_like(n))
    alone = max(free + serial, _LEAST * float(time.min()))
    return float(1 / alone), float(serial / alone), float(pairs / alone)


def _tails() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2
