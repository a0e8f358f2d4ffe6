"""Any column of `runs` by any two others: medians over the runs that are ok."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from results.location import DataSetError
from results.schema import RUN_COLUMNS, arrow_schema
from results.store import DataSet
from results.summary import median_or_none, varying_within


@dataclass(frozen=True)
class Pivot:
    """`cells`: median of `value` by (row, column) value; `mixed`: other axes in which runs of a cell may differ."""

    rows: str
    columns: str
    value: str
    row_values: tuple[Any, ...]
    column_values: tuple[Any, ...]
    cells: Mapping[tuple[Any, Any], float | None]
    mixed: tuple[str, ...]


def pivot(dataset: DataSet, rows: str, columns: str, value: str, sweep_id: str | None = None) -> Pivot:
    """Compute the pivot. Raises DataSetError for a column or sweep that is not there, or a value that is no number."""
    axes = [column.name for column in RUN_COLUMNS if column.axis]
    runs = dataset.read("runs", list(dict.fromkeys((rows, columns, value, "status", *axes))), sweep_id).to_pylist()
    kind = arrow_schema("runs").field(value).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise DataSetError(f"runs.{value} is no number ({kind}), so it has no median; choose another value")
    ok = [run for run in runs if run["status"] == "ok"]
    cells = defaultdict(list)
    for run in ok:
        cells[run[rows], run[columns]].append(run[value])
    return Pivot(
        rows,
        columns,
        value,
        _ordered({run[rows] for run in ok}),
        _ordered({run[columns] for run in ok}),
        {cell: median_or_none(values) for cell, values in cells.items()},
        varying_within(ok, (rows, columns)),
    )


def _ordered(values: set[Any]) -> tuple[Any, ...]:
    return (*sorted(value for value in values if value is not None), *(value for value in values if value is None))
