"""External fault handlers, side by side with what else served the same guests."""

from __future__ import annotations

from collections.abc import Sequence

from results.questions.handler import table_of
from results.statistics.design import Row
from results.store.dataset import DataSet
from results.summaries.handlers import VCPU_COLUMNS
from results.summaries.measured import vcpus_of_runs
from results.tables.answer import Answer


def section(dataset: DataSet, runs: Sequence[Row]) -> Answer | None:
    """None where no run had an external handler."""
    if not any(run.get("page_server") == "external" for run in runs):
        return None
    return table_of(runs, vcpus_of_runs(dataset, VCPU_COLUMNS))
