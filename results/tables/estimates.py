"""Medians and ratios with their intervals as text."""

from __future__ import annotations

from math import floor, isfinite, log10

from results.statistics.intervals import Estimate
from results.statistics.verdicts import equivalent, written

RATIO_MARKS = "=: no difference, the interval lies within 5% of 1; ?: inconclusive, it includes 1 and more"


def estimate(value: Estimate | None, digits: int = 3, unit: float = 1.0) -> str:
    """A median with its interval, `452 (430..470)`, in so many significant digits of the median, in `unit`s. A dash for none."""
    if value is None:
        return "-"
    places = _places(value.value / unit, digits)
    return _with_interval(value, [f"{number / unit:.{places}f}" for number in _numbers(value)])


def ratio(value: Estimate | None) -> str:
    """A ratio with its interval, each end on its side of 1, and a mark of RATIO_MARKS where the interval includes 1."""
    if value is None:
        return "-"
    least = min(2, _places(max(value.value, 1.0), 3))
    if value.low is None or value.low == value.high or not (value.includes(1.0) or equivalent(value)):
        return _with_interval(value, written(_numbers(value), (1.0,), least))
    ends = written(_numbers(value)[1:], (1.0,), least)
    middle = f"{value.value:.{len(ends[0].partition('.')[2])}f}"
    return f"{_with_interval(value, [middle, *ends])} {'=' if equivalent(value) else '?'}"


def median_of(value: Estimate | None) -> float | None:
    """The median alone."""
    return None if value is None else value.value


def _numbers(value: Estimate) -> list[float]:
    return [number for number in (value.value, value.low, value.high) if number is not None]


def _with_interval(value: Estimate, texts: list[str]) -> str:
    """The texts of a median and of the ends of its interval, put together; without one that is the median alone."""
    return texts[0] if len(texts) == 1 or value.low == value.high else f"{texts[0]} ({texts[1]}..{texts[2]})"


def _places(value: float, digits: int) -> int:
    """Decimals that leave so many significant digits."""
    if not value or not isfinite(value):
        return 0
    return max(0, digits - 1 - floor(log10(abs(value))))
