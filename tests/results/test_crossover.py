"""Where one side overtakes the other."""

from __future__ import annotations

import pytest

from results.statistics.crossover import Crossing, crossings
from results.statistics.intervals import Estimate


def sure(value: float) -> Estimate:
    return Estimate(value, value * 0.95, value * 1.05, 5)


def test_a_crossing_lies_between_the_points_that_are_sure() -> None:
    [crossing] = crossings({1.0: sure(0.5), 2.0: Estimate(0.9, 0.7, 1.2, 5), 4.0: sure(2.0)})
    assert (crossing.low, crossing.high, crossing.upwards) == (1.0, 4.0, True)
    assert 2.0 < crossing.at < 4.0


def test_where_it_crosses_is_interpolated_in_the_logarithm() -> None:
    assert list(crossings({0.0: sure(2.0), 1.0: sure(0.5)})) == [Crossing(0.0, 1.0, pytest.approx(0.5), False)]


def test_points_that_may_be_equal_make_no_crossing() -> None:
    doubtful = Estimate(0.5, 0.3, 1.1, 3)
    assert list(crossings({1.0: sure(2.0), 2.0: doubtful, 4.0: sure(3.0)})) == []
    assert list(crossings({1.0: sure(2.0), 2.0: Estimate(0.5, None, None, 1)})) == []


def test_there_and_back_are_two_crossings() -> None:
    found = list(crossings({1.0: sure(2.0), 2.0: sure(0.5), 4.0: sure(2.0)}))
    assert [crossing.upwards for crossing in found] == [False, True]
