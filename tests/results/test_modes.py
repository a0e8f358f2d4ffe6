"""Humps of latencies are found where there are two, and not where there is one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from results.derive import histogram
from results.statistics.modes import humps, in_words

RNG = np.random.default_rng(11)


def around(us: float, count: int, spread: float = 0.2) -> npt.NDArray[np.int64]:
    return (1000 * us * RNG.lognormal(0, spread, count)).astype(np.int64)


@pytest.mark.parametrize("count", [500, 200_000])
def test_a_wake_up_on_one_cpu_and_across_two_makes_two_humps(count: int) -> None:
    found = humps(histogram.count(np.concatenate([around(9, count * 7 // 10), around(50, count * 3 // 10)])))
    assert [round(hump.share, 1) for hump in found] == [0.7, 0.3]
    assert [hump.at_ns for hump in found] == pytest.approx([9_000, 50_000], rel=0.15)
    assert in_words(found).startswith("bimodal: 7")


@pytest.mark.parametrize("seed", range(12))
def test_one_hump_with_a_long_tail_is_one_however_it_was_drawn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (3000 * rng.lognormal(0, 0.3, 3000) + 1000 * rng.pareto(1.5, 3000)).astype(np.int64)
    found = humps(histogram.count(values))
    assert len(found) == 1 and found[0].share == 1.0
    assert in_words(found) == ""


def test_a_few_outliers_are_no_hump_and_too_few_faults_say_nothing() -> None:
    assert len(humps(histogram.count(np.concatenate([around(9, 10_000), around(5000, 200)])))) == 1
    assert humps(histogram.count(around(9, 100))) == ()


def test_a_bin_is_less_than_two_percent_wide_and_holds_its_values() -> None:
    values = np.unique(np.geomspace(1, 2**32 - 1, 5000).astype(np.int64))
    found, edges = histogram.bins(values), histogram.edges()
    assert ((edges[found] <= values) & (values < edges[found + 1])).all()
    assert (edges[1:] / edges[:-1]).max() < 1.016
    assert histogram.bins(np.array([0, 1, 2**40])).tolist() == [0, 0, histogram.BINS - 1]
