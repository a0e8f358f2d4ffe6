"""Whether two sides differ: exact tests of "nothing has changed", and the correction for many of them at once.

Ties count for neither side, which makes a test more careful and never less.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

ALPHA = 0.05
"""The most often that a comparison in which nothing has changed may name any cell better or worse."""


def sign_test(ratios: Sequence[float]) -> float:
    """p of the two-sided sign test that the median of paired ratios is 1."""
    n = len(ratios)
    extreme = max(sum(ratio > 1 for ratio in ratios), sum(ratio < 1 for ratio in ratios))
    return min(1.0, 2 * sum(comb(n, k) for k in range(extreme, n + 1)) / (1 << n))


def rank_sum_test(base: Sequence[float], other: Sequence[float]) -> float:
    """p of the exact two-sided rank-sum test that both sides come from one distribution."""
    if not base or not other:
        return 1.0
    from scipy.stats import mannwhitneyu  # slow to import, and only needed here

    found = 1.0
    for sign in (1, -1):
        # A tie is ranked against the side that the test is looking for, so the ranks are distinct and the test is exact.
        ordered = sorted([(sign * value, 1) for value in base] + [(sign * value, 0) for value in other])
        ranks: tuple[list[int], list[int]] = ([], [])
        for rank, (_, side) in enumerate(ordered):
            ranks[side].append(rank)
        found = min(found, float(mannwhitneyu(ranks[0], ranks[1], alternative="greater", method="exact").pvalue))
    return min(1.0, 2 * found)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: each p adjusted so that all those below ALPHA may be believed together."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for step, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[number]))
        adjusted[number] = largest
    return adjusted


def least_p(n: int, *, paired: bool) -> float:
    """The smallest p that n repeats a side can give: every pair on one side of 1, or every repeat of one side above all of the
    other's."""
    return min(1.0, 2.0 ** (1 - n) if paired else 2 / comb(2 * n, n))


def repeats_needed(cells: int, *, paired: bool) -> int:
    """The fewest repeats with which one of `cells` cells can be named better or worse."""
    return next(n for n in range(2, 1000) if least_p(n, paired=paired) * max(1, cells) <= ALPHA)
