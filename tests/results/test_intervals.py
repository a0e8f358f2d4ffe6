"""Medians and ratios with their intervals: exact values, and the coverage printed against the coverage drawn."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binomtest

from results.statistics.intervals import (
    LEVEL,
    Estimate,
    coverage,
    median,
    paired_ratio,
    repeats_for,
    two_groups,
    unpaired_ratio,
)

Sample = npt.NDArray[np.float64]


def two_humped(rng: np.random.Generator, size: tuple[int, int]) -> Sample:
    """Two clusters, a factor of 6 apart; the first one holds 60 %, so the median (below) is in it."""
    low = rng.random(size) < 0.6
    return np.where(low, rng.lognormal(0.0, 0.1, size), rng.lognormal(np.log(6.0), 0.1, size))


SHAPES: dict[str, tuple[Callable[[np.random.Generator, tuple[int, int]], Sample], float]] = {
    "normal": (lambda rng, size: rng.normal(10.0, 1.0, size), 10.0),
    "skewed": (lambda rng, size: rng.lognormal(0.0, 1.0, size), 1.0),
    "two-humped": (two_humped, float(np.exp(0.1 * 0.967421566))),  # the 5/6 quantile of its first cluster
}
DRAWN = 600


def held(intervals: list[Estimate | None], true: float) -> tuple[float, float]:
    """How often the intervals hold the true value, and the coverage they print."""
    found = [one for one in intervals if one is not None]
    assert len(found) == len(intervals)
    return float(np.mean([one.includes(true) for one in found])), found[0].coverage


def at_least(share: float, printed: float) -> bool:
    """Whether a share of DRAWN is no less than what is printed, four standard errors allowed."""
    return share >= printed - 4 * np.sqrt(max(printed * (1 - printed), 1e-4) / DRAWN)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_intervals_of_2_to_30_repeats_hold_the_median_as_often_as_they_print(shape: str) -> None:
    draw, true = SHAPES[shape]
    rng = np.random.default_rng(1)
    short = {}
    for n in range(2, 31):
        share, printed = held([median(sample) for sample in draw(rng, (DRAWN, n))], true)
        assert printed == coverage(n)
        if not at_least(share, printed):
            short[n] = (share, printed)
    assert short == {}


@pytest.mark.parametrize("shape", list(SHAPES))
def test_intervals_of_ratios_hold_the_ratio_as_often_as_they_print(shape: str) -> None:
    draw, true = SHAPES[shape]
    rng = np.random.default_rng(2)
    short = {}
    for n in range(2, 31):
        a, b = draw(rng, (DRAWN, n)), 3.0 * draw(rng, (DRAWN, n))
        # The second side is skewed the other way as well: no common shape is assumed.
        mirrored = 3.0 * true**2 / draw(rng, (DRAWN, n))
        rows = zip(a, b, mirrored, strict=True)
        paired, unpaired, unlike = zip(
            *((paired_ratio((1.0, y / 3.0) for y in y_), unpaired_ratio(x, y_), unpaired_ratio(x, z)) for x, y_, z in rows),
            strict=True,
        )
        for name, intervals, ratio in (("paired", paired, true), ("unpaired", unpaired, 3.0), ("unlike", unlike, 3.0)):
            share, printed = held(list(intervals), ratio)
            if not at_least(share, printed):
                short[name, n] = (share, printed)
    assert short == {}


def test_the_coverage_printed_is_that_of_the_binomial_test_which_the_interval_turns_round() -> None:
    for n in range(2, 60):
        values = np.arange(1.0, n + 1)
        found = median(values)
        assert found is not None and found.low is not None
        below = int(found.low)  # the low end is the below-th smallest
        outside = float(binomtest(below - 1, n).pvalue)
        assert found.coverage == pytest.approx(1 - outside)
        if found.coverage < LEVEL:
            assert below == 1, "the widest interval there is"
        else:
            assert below == n // 2 or 1 - float(binomtest(below, n).pvalue) < LEVEL, "a narrower one would do"


def test_coverage_with_few_repeats() -> None:
    assert [coverage(n) for n in (1, 2, 3, 5, 6, 7)] == [0.0, 0.5, 0.75, 0.9375, 0.96875, 0.984375]
    assert repeats_for(LEVEL) == 6 and repeats_for(0.99) == 8
    assert all(coverage(n) >= LEVEL for n in range(6, 200))


def test_of_three_repeats_the_interval_is_their_range() -> None:
    assert median([3.0, 1.0, 2.0, None]) == Estimate(2.0, 1.0, 3.0, 3)


def test_of_nine_repeats_the_interval_leaves_the_extremes_out() -> None:
    assert median([9.0, 1.0, 3.0, 2.0, 4.0, 8.0, 7.0, 5.0, 6.0]) == Estimate(5.0, 2.0, 8.0, 9)


def test_one_repeat_has_no_interval_and_none_has_no_median() -> None:
    assert median([3.0]) == Estimate(3.0, None, None, 1)
    assert median([3.0]).includes(17.0)  # type: ignore[union-attr]
    assert not median([3.0]).within(0.0, 9.0)  # type: ignore[union-attr]
    assert median([None]) is None


def test_ratios_are_taken_within_a_repeat_before_the_median() -> None:
    ratio = paired_ratio([(1.0, 2.0), (10.0, 25.0), (100.0, 400.0), (None, 5.0), (0.0, 5.0), (5.0, None)])
    assert ratio == Estimate(2.5, 2.0, 4.0, 3)


def test_an_unpaired_ratio_is_that_of_the_medians_and_its_coverage_the_product() -> None:
    ratio = unpaired_ratio([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 4 / 3, 4.0))
    assert ratio.coverage == 0.75**2
    assert unpaired_ratio([], [1.0]) is None and unpaired_ratio([0.0], [1.0]) is None
    reaching_0 = unpaired_ratio([1.0, 2.0, 4.0], [0.0, 1.0, 2.0])
    assert reaching_0 is not None and (reaching_0.low, reaching_0.high) == (0.0, 2.0)
    assert unpaired_ratio([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]) == Estimate(1.0, None, None, 3)


def test_repeats_in_two_clusters_are_found_and_a_spread_is_not() -> None:
    assert two_groups([18.0, 110.0, 19.0, 108.0, 18.5]) == (18.5, 109.0)
    assert two_groups([18.0, 110.0, 109.0, 108.0]) is None  # one alone is no cluster
    assert two_groups(list(np.geomspace(10, 100, 9))) is None
    assert two_groups([10.0, 10.1, 11.0, 11.1]) is None  # a tenth apart


def test_the_interval_of_a_ratio_of_medians_reaches_the_level_from_eight_repeats_on() -> None:
    for n in range(8, 31):
        values = [float(value) for value in range(1, n + 1)]
        found = unpaired_ratio(values, values)
        assert found is not None and found.coverage >= LEVEL, n
        assert found.coverage == pytest.approx(coverage(n, sqrt(LEVEL)) ** 2)
