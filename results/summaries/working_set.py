"""A run's working set: the pages its guest touched, in the order it first did, as a prefetch takes them."""

from __future__ import annotations

from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.trace import run_of


def working_set(dataset: DataSet, run_id: str) -> list[int]:
    """Page numbers of the run's faults, each once, by the time they were first raised.

    Raises DataSetError when there is no such run, when it kept only some of its faults, or when it had none.
    """
    run = run_of(dataset, run_id)
    first: dict[int, int] = {}
    for batch in dataset.batches_of_run("faults", run_id, run["sweep_id"], ["page", "raised_ns", "delivered_ns"]):
        for fault in batch.to_pylist():
            at = fault["raised_ns"] or fault["delivered_ns"]
            if at is not None:
                first[fault["page"]] = min(at, first.get(fault["page"], at))
    if not first:
        raise DataSetError(f"run {run_id} had no fault: use a run without prefetch, under another strategy than eager")
    return sorted(first, key=first.__getitem__)
