"""A ratio in one of four words, and in figures that do not contradict the word.

- better or worse (higher or lower where no direction is better): the interval excludes 1, and so does the exact test after the
  correction for all cells of the comparison.
- no difference: the whole interval lies within the margin, and it has at least the coverage of the two one-sided tests.
- inconclusive: everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

from results.statistics.intervals import LEVEL, Estimate
from results.statistics.significance import ALPHA

MARGIN = 0.05
"""Default margin: a ratio that surely lies between 1 - MARGIN and 1 + MARGIN is no difference."""

BETTER, WORSE, HIGHER, LOWER = "better", "worse", "higher", "lower"
NO_DIFFERENCE, INCONCLUSIVE = "no difference", "inconclusive"

WORDS = (BETTER, WORSE, HIGHER, LOWER, NO_DIFFERENCE, INCONCLUSIVE)

_ENOUGH = 2 * LEVEL - 1
"""Coverage from which "no difference" is a verdict: each end of the interval is then wrong in at most 1 - LEVEL of cases."""

_MOST_DECIMALS = 15


def verdict(ratio: Estimate, p: float, direction: str, margin: float = MARGIN) -> str:
    """The word for a ratio whose corrected p is `p`; `direction`: which is better, `higher`, `lower` or empty."""
    if equivalent(ratio, margin):
        return NO_DIFFERENCE
    if ratio.includes(1.0) or p > ALPHA:
        return INCONCLUSIVE
    moved = HIGHER if ratio.value > 1 else LOWER
    return moved if not direction else BETTER if moved == direction else WORSE


def equivalent(ratio: Estimate, margin: float = MARGIN) -> bool:
    """Whether the interval, of enough coverage, lies within the margin."""
    return ratio.coverage >= _ENOUGH and ratio.within(1 - margin, 1 + margin)


def least_difference(ratio: Estimate | None) -> float | None:
    """The smallest change, in parts of 1, that repeats of this spread would have shown; None without an interval."""
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low <= 0 or ratio.value <= 0:
        return None
    return max(ratio.value / ratio.low - 1, 1 - ratio.value / ratio.high)


def figures(ratio: Estimate, *limits: float) -> str:
    """The ratio and its interval with as many decimals, two at least, as it takes for each figure to stay on its side of 1 and
    of the `limits`."""
    numbers = [number for number in (ratio.value, ratio.low, ratio.high) if number is not None]
    texts = written(numbers, (1.0, *limits))
    return texts[0] if len(texts) == 1 else f"{texts[0]} ({texts[1]}..{texts[2]})"


def percent(change: float, *limits: float) -> str:
    """A change (parts of 1; `limits` too) in percent with its sign and one decimal at least, or as a multiple from double on."""
    if change >= 1:
        return f"{change + 1:.3g} times"
    [text] = written([100 * change], [0.0, *(100 * limit for limit in limits)], 1)
    return f"{'' if text.startswith('-') else '+'}{text}%"


def written(numbers: Sequence[float], limits: Sequence[float], least: int = 2) -> list[str]:
    """The numbers with the fewest decimals, `least` or more, by which each compares with each limit as the number itself does."""
    for decimals in range(least, _MOST_DECIMALS):
        texts = [f"{number:.{decimals}f}" for number in numbers]
        if all(_agree(number, text, limits) for number, text in zip(numbers, texts, strict=True)):
            return texts
    return [repr(number) for number in numbers]


def _agree(number: float, text: str, limits: Sequence[float]) -> bool:
    return all(_side(number, limit) == _side(float(text), limit) for limit in limits)


def _side(number: float, limit: float) -> int:
    return (number > limit) - (number < limit)
