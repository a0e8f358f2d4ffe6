"""Any column of `runs` by any two parameters: medians, with intervals, over the runs that are ok."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.statistics.design import Row, checked, differing, grouped, in_order, numeric, value_of
from results.statistics.intervals import Estimate, median
from results.statistics.percentiles import shown_of
from results.summaries.noise import flagged, noise


@dataclass(frozen=True)
class Pivot:
    """`cells`: median of `value` by (row, column) value; `flagged`: cells with runs flagged as noisy; `noise`: lines about those;
    `mixed`: other parameters in which runs of a cell may differ."""

    rows: str
    columns: str
    value: str
    row_values: tuple[Any, ...]
    column_values: tuple[Any, ...]
    cells: Mapping[tuple[Any, Any], Estimate | None]
    flagged: frozenset[tuple[Any, Any]]
    noise: tuple[str, ...]
    mixed: tuple[str, ...]


def pivot(runs: Sequence[Row], rows: str, columns: str, value: str) -> Pivot:
    """Compute the pivot; `rows` and `columns` are columns or configuration keys. Raises DataSetError for one that is not there,
    or a value that is not a number."""
    for parameter in (rows, columns):
        checked(runs, parameter)
    numeric(value)
    ok = [run for run in runs if run["status"] == "ok"]
    cells = grouped(ok, (rows, columns))
    return Pivot(
        rows,
        columns,
        value,
        _values(ok, rows),
        _values(ok, columns),
        {cell: median(shown_of(group, value)) for cell, group in cells.items()},
        frozenset(cell for cell, group in cells.items() if flagged(group)),
        tuple(noise(ok)),
        differing(ok, (rows, columns)),
    )


def _values(runs: Sequence[Row], parameter: str) -> tuple[Any, ...]:
    return tuple(sorted({value_of(run, parameter) for run in runs}, key=lambda value: in_order((value,))))
