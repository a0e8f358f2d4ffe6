"""External fault handlers, side by side with what else served the same guests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from results.questions.handler import table_of
from results.statistics.design import Row
from results.store.dataset import DataSet
from results.summaries.handlers import VCPU_COLUMNS
from results.tables.layout import Table


@dataclass(frozen=True)
class Section:
    """A table with the lines below it."""

    table: Table
    notes: Sequence[str]


def section(dataset: DataSet, runs: Sequence[Row]) -> Section | None:
    """None where no run had an external handler."""
    if not any(run.get("page_server") == "external" for run in runs):
        return None
    wanted = {run["run_id"] for run in runs}
    vcpus: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for batch in dataset.read("vcpus", ["run_id", *VCPU_COLUMNS]).to_batches():
        for row in batch.to_pylist():
            if row["run_id"] in wanted:
                vcpus[row["run_id"]].append(row)
    answer = table_of(runs, vcpus)
    return Section(Table(answer.heads, answer.rows, answer.keys), answer.notes)
