"""Medians, speed-ups and what their intervals promise, against exact values and by drawing many samples."""

from __future__ import annotations

import numpy as np
import pytest

from results.statistics.intervals import LEVEL, Estimate, chance, coverage, median, paired_ratio, two_groups, unpaired_ratio


def test_of_three_repeats_the_interval_is_their_range() -> None:
    assert median([3.0, 1.0, 2.0, None]) == Estimate(2.0, 1.0, 3.0, 3)


def test_one_repeat_says_nothing_of_its_spread_and_none_nothing_at_all() -> None:
    assert median([3.0]) == Estimate(3.0, None, None, 1)
    assert median([3.0]).includes(17.0)  # type: ignore[union-attr]
    assert median([None]) is None


def test_ratios_are_taken_within_a_repeat_before_the_median() -> None:
    ratio = paired_ratio([(1.0, 2.0), (10.0, 25.0), (100.0, 400.0), (None, 5.0), (0.0, 5.0), (5.0, None)])
    assert ratio == Estimate(2.5, 2.0, 4.0, 3)


def test_an_unpaired_ratio_is_that_of_the_medians() -> None:
    ratio = unpaired_ratio([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2.0, 4 / 3, 4.0))
    assert unpaired_ratio([], [1.0]) is None and unpaired_ratio([0.0], [1.0]) is None


@pytest.mark.parametrize("n", [3, 5, 12])
def test_intervals_hold_the_true_median_as_often_as_they_promise(n: int) -> None:
    rng = np.random.default_rng(n)
    held = [median(rng.lognormal(0.0, 0.5, n)).includes(1.0) for _ in range(400)]  # type: ignore[union-attr]
    # Four standard errors, and for 12 repeats the few percent by which a percentile bootstrap of a median falls short.
    assert np.mean(held) >= coverage(n) - 4 * np.sqrt(coverage(n) * (1 - coverage(n)) / 400) - 0.03


def test_what_few_repeats_promise_is_said() -> None:
    assert [round(coverage(n), 4) for n in (1, 2, 3, 5, 6, 20)] == [0.0, 0.5, 0.75, 0.9375, LEVEL, LEVEL]
    assert chance(3, paired=True) == 0.25  # three pairs on one side of 1: 2 of 8 ways
    assert chance(3, paired=False) == pytest.approx(0.1)  # all of three above all of three: 2 of 20 ways
    assert chance(30, paired=True) == pytest.approx(1 - LEVEL)


def test_repeats_in_two_places_are_found_and_a_spread_is_not() -> None:
    assert two_groups([18.0, 110.0, 19.0, 108.0, 18.5]) == (18.5, 109.0)
    assert two_groups([18.0, 110.0, 109.0, 108.0]) is None  # one alone is no group
    assert two_groups(list(np.geomspace(10, 100, 9))) is None
    assert two_groups([10.0, 10.1, 11.0, 11.1]) is None  # a tenth apart
