"""Net figures of a cell: a bracket over all of its repeats, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.statistics.design import Row
from results.statistics.intervals import median

NOTE = (
    "net: without emulated operations (a range: with and without the slow GUP of a refused access); -: one of the repeats has "
    "none; neighbours brought by fault-around cost no strategy a stage-2 violation"
)
"""The notes of a table that shows net."""


@dataclass(frozen=True)
class Bracket:
    """Medians over `n` repeats of the lower and of the upper end, the same where net is one number."""

    low: float
    high: float
    n: int

    def text(self, figure: Callable[[float | None], str]) -> str:
        """One figure, or two where they differ as they are written."""
        low, high = figure(self.low), figure(self.high)
        return low if low == high else f"{low}..{high}"


def ends(column: str) -> tuple[str, str]:
    """The columns of `runs` that hold the ends of a net column: of `latency_p50_net_ns`, `latency_p50_net_low_ns` and _high_."""
    head, _, unit = column.partition("_net")
    return f"{head}_net_low{unit}", f"{head}_net_high{unit}"


def bracket(group: Sequence[Row], column: str) -> Bracket | None:
    """Net `column` of a cell's runs; None where any of them has none: those that are left would not be its repeats."""
    return _of([(run[ends(column)[0]], run[ends(column)[1]]) for run in group])


def bracket_to(baseline: Mapping[int, Row], group: Sequence[Row], column: str) -> Bracket | None:
    """The same, divided by the baseline's of the same repeat: its lower end by the baseline's upper one and the reverse."""
    low, high = ends(column)
    pairs: list[tuple[float | None, float | None]] = []
    for run in group:
        base = baseline.get(run["repeat"])
        there = base is not None and base[low] and base[high] and run[low] is not None
        pairs.append((run[low] / base[high], run[high] / base[low]) if there and base is not None else (None, None))
    return _of(pairs)


def net_text(found: Bracket | None, figure: Callable[[float | None], str]) -> str:
    """A bracket as text; a dash for none."""
    return "-" if found is None else found.text(figure)


def _of(pairs: Sequence[tuple[Any, Any]]) -> Bracket | None:
    low, high = (median(pair[side] for pair in pairs) for side in (0, 1))
    if low is None or high is None or any(None in pair for pair in pairs):
        return None
    return Bracket(low.value, high.value, len(pairs))
