"""A run's working set: the pages its guest touched, in the order it first did, as a prefetch takes them."""

from __future__ import annotations

from results.store.dataset import DataSet
from results.store.locations import DataSetError


def working_set(dataset: DataSet, run_id: str) -> list[int]:
    """Page numbers of the run's faults, each once, by the time they were first raised.

    Raises DataSetError when there is no such run, when it kept only some of its faults, or when it had none.
    """
    runs = dataset.read("runs", ["run_id", "sweep_id", "sample_every", "records_dropped"]).to_pylist()
    run = next((one for one in runs if one["run_id"] == run_id), None)
    if run is None:
        raise DataSetError(f"there is no run {run_id}: `loadgen-report export --table runs` lists them")
    if (run["sample_every"] or 1) > 1 or run["records_dropped"]:
        raise DataSetError(f"run {run_id} kept only some of its faults: run it with a larger faults_limit")
    first: dict[int, int] = {}
    for batch in dataset.batches("faults", ["run_id", "page", "raised_ns"], sweep_id=run["sweep_id"]):
        for fault in batch.to_pylist():
            if fault["run_id"] == run_id and fault["raised_ns"] is not None:
                page, raised_ns = fault["page"], fault["raised_ns"]
                first[page] = min(raised_ns, first.get(page, raised_ns))
    if not first:
        raise DataSetError(f"run {run_id} had no fault: use a run without prefetch, under another strategy than eager")
    return sorted(first, key=first.__getitem__)
