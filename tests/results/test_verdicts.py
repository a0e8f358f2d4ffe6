"""Tests of "nothing has changed", their correction, and the words and figures made of them."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from results.statistics.intervals import Estimate, paired_ratio
from results.statistics.significance import ALPHA, holm, least_p, rank_sum_test, repeats_needed, sign_test
from results.statistics.verdicts import equivalent, figures, least_difference, percent, verdict


def test_the_sign_test_is_the_share_of_all_signs_that_are_as_far_out() -> None:
    for n in range(1, 9):
        ratios = [0.5] + [2.0] * (n - 1)
        far = sum(max(sum(signs), n - sum(signs)) >= max(1, n - 1) for signs in product((0, 1), repeat=n))
        assert sign_test(ratios) == pytest.approx(min(1.0, far / 2**n))
    assert sign_test([1.0, 1.0, 2.0, 2.0]) == sign_test([0.5, 0.5, 2.0, 2.0]) == 1.0, "a tie counts for neither side"


def test_the_rank_sum_test_is_the_share_of_all_deals_that_are_as_far_out() -> None:
    rng = np.random.default_rng(3)
    for n in (2, 3, 4, 5):
        a, b = list(rng.normal(0, 1, n)), list(rng.normal(1, 1, n))
        both = a + b
        wins = [
            sum(both[i] > both[j] for i in deal for j in set(range(2 * n)) - set(deal)) for deal in combinations(range(2 * n), n)
        ]
        mine = sum(y > x for x in a for y in b)
        far = max(mine, n * n - mine)
        assert rank_sum_test(a, b) == pytest.approx(min(1.0, 2 * np.mean([won >= far for won in wins])))
    assert rank_sum_test([1.0] * 6, [1.0] * 6) == 1.0, "a tie counts for neither side"
    assert rank_sum_test([], [1.0]) == 1.0
    assert (
        rank_sum_test([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
        == rank_sum_test([4.0, 5.0, 6.0], [1.0, 2.0, 3.0])
        == least_p(3, paired=False)
    )


def test_holm_agrees_with_published_values_and_keeps_the_order() -> None:
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0] and holm([0.02]) == [0.02] and holm([]) == []


def test_holm_rejects_what_the_step_down_rule_rejects() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        p = list(rng.beta(0.4, 4.0, rng.integers(1, 12)))
        rejected: set[int] = set()
        for step, number in enumerate(np.argsort(p)):
            if p[number] > ALPHA / (len(p) - step):
                break
            rejected.add(int(number))
        assert {number for number, one in enumerate(holm(p)) if one <= ALPHA} == rejected


def test_how_many_repeats_it_takes_grows_with_the_cells() -> None:
    assert [repeats_needed(cells, paired=True) for cells in (0, 1, 2, 4, 54)] == [6, 6, 7, 8, 12]
    assert [repeats_needed(cells, paired=False) for cells in (1, 4, 54)] == [4, 5, 7]


def sure(value: float, low: float, high: float, coverage: float = 0.97) -> Estimate:
    return Estimate(value, low, high, 6, coverage)


@pytest.mark.parametrize(
    ("ratio", "p", "direction", "word"),
    [
        (sure(1.2, 1.1, 1.3), 0.03, "higher", "better"),
        (sure(1.2, 1.1, 1.3), 0.03, "lower", "worse"),
        (sure(0.8, 0.7, 0.9), 0.03, "higher", "worse"),
        (sure(0.8, 0.7, 0.9), 0.03, "lower", "better"),
        (sure(1.2, 1.1, 1.3), 0.03, "", "higher"),
        (sure(0.8, 0.7, 0.9), 0.03, "", "lower"),
        (sure(1.2, 1.1, 1.3), 0.06, "higher", "inconclusive"),
        (sure(4.85, 0.902, 6.63), 0.03, "higher", "inconclusive"),
        (sure(1.02, 0.96, 1.04), 1.0, "higher", "no difference"),
        (sure(1.02, 1.01, 1.04), 0.01, "higher", "no difference"),
        (sure(1.02, 0.96, 1.06), 1.0, "higher", "inconclusive"),
        (sure(1.0, 0.94, 1.04), 1.0, "higher", "inconclusive"),
        (sure(1.0, 0.99, 1.01, coverage=0.75), 1.0, "higher", "inconclusive"),
        (Estimate(2.0, None, None, 1), 1.0, "higher", "inconclusive"),
    ],
)
def test_the_four_words(ratio: Estimate, p: float, direction: str, word: str) -> None:
    assert verdict(ratio, p, direction) == word


def test_the_margin_decides_what_is_no_difference() -> None:
    assert verdict(sure(1.02, 1.01, 1.04), 0.01, "higher", margin=0.03) == "better"
    assert equivalent(sure(1.0, 0.9, 1.1), margin=0.1) and not equivalent(sure(1.0, 0.9, 1.1), margin=0.09)


def test_a_ratio_far_from_1_is_not_called_no_difference_by_three_repeats_however_wide() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        ratio = paired_ratio((1.0, 4.85 * spread) for spread in rng.lognormal(0, 1, 3))
        assert ratio is not None and verdict(ratio, 0.25, "higher") == "inconclusive"


def test_rounding_contradicts_no_verdict() -> None:
    assert figures(sure(1.0, 0.9, 1.1)) == "1.00 (0.90..1.10)"
    assert figures(sure(1.02, 1.0004, 1.04)) == "1.0200 (1.0004..1.0400)"
    assert figures(sure(1.02, 0.99, 1.0499), 0.95, 1.05) == "1.0200 (0.9900..1.0499)"
    assert figures(Estimate(2.0, None, None, 1)) == "2.00"
    assert percent(-0.2) == "-20.0%" and percent(0.0) == "+0.0%" and percent(4.0) == "5 times"
    assert percent(-0.10004, -0.1) == "-10.004%" and percent(-0.0002) == "-0.02%" and percent(0.0002) == "+0.02%"


def test_the_smallest_change_that_could_have_been_shown_follows_from_the_spread() -> None:
    assert least_difference(sure(1.0, 0.8, 1.1)) == pytest.approx(0.25)
    assert least_difference(sure(1.0, 0.95, 1.6)) == pytest.approx(0.375)
    assert least_difference(Estimate(1.0, None, None, 1)) is None
