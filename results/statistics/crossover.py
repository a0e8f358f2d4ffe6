"""Where one side overtakes the other along a parameter that is a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log

from results.statistics.intervals import Estimate


@dataclass(frozen=True)
class Crossing:
    """The ratio passes 1: surely below on one side of `low`..`high` and surely above on the other, as far as intervals can
    tell; `at`: where the medians pass it, interpolated. `upwards`: above 1 beyond it."""

    low: float
    high: float
    at: float
    upwards: bool


def crossings(ratios: Mapping[float, Estimate]) -> Iterator[Crossing]:
    """Crossings of ratios by the parameter's value, in order. Points whose interval includes 1 decide nothing: a crossing lies
    between the sure points around them."""
    points = sorted(ratios.items())
    sure = [number for number, (_, ratio) in enumerate(points) if ratio.value > 0 and not ratio.includes(1.0)]
    for left, right in pairwise(sure):
        before, after = points[left][1].value > 1, points[right][1].value > 1
        if before != after:
            at = next(
                (
                    _where_one(points[n], points[n + 1])
                    for n in range(left, right)
                    if (points[n][1].value > 1) == before and (points[n + 1][1].value > 1) == after
                ),
                (points[left][0] + points[right][0]) / 2,
            )
            yield Crossing(points[left][0], points[right][0], at, after)


def _where_one(left: tuple[float, Estimate], right: tuple[float, Estimate]) -> float:
    """Between two points, the logarithm of the ratio taken as straight."""
    below, above = log(left[1].value), log(right[1].value)
    return left[0] + (right[0] - left[0]) * below / (below - above)
