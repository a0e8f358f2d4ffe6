"""A run's faults as a trace, which access=trace replays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from results.schema import arrow_schema
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.store.trace_file import Trace

_COLUMNS = ("vcpu", "page", "round", "raised_ns", "delivered_ns", "write", "guest")
_SCHEMA = pa.schema([arrow_schema("faults").field(name) for name in _COLUMNS])
_OF_RUN = ("run_id", "sweep_id", "sample_every", "records_dropped", "guests")


def trace_of(dataset: DataSet, run_id: str, number: int = 0, run: Mapping[str, Any] | None = None) -> Trace:
    """The faults of one round of a run, in the order in which they were raised, or delivered where that alone is known.
    `run`: its row, if it has been read.

    Raises DataSetError when there is no such run or round, when it kept only some of its faults, or is of several guests.
    """
    run = run or run_of(dataset, run_id)
    if (run["guests"] or 1) > 1:
        raise DataSetError(f"run {run_id} is of {run['guests']} guests, and a trace is of one: use a run with guests=1")
    found = pa.Table.from_batches(_faults(dataset, run, number), schema=_SCHEMA)
    if not found.num_rows:
        raise DataSetError(f"run {run_id} has no fault in round {number}: use another run or round, without prefetch")
    times = found.column("raised_ns").combine_chunks().fill_null(0).to_numpy(zero_copy_only=False)
    delivered = found.column("delivered_ns").combine_chunks().fill_null(0).to_numpy(zero_copy_only=False)
    times = np.where(times == 0, delivered, times)
    write = found.column("write")
    columns: dict[str, Any] = {
        "time_ns": times if times.all() else (),
        "page": found.column("page").to_numpy(),
        "vcpu": found.column("vcpu").to_numpy(),
        "write": () if write.null_count else write.to_numpy(),
    }
    return Trace.of(columns)


def run_of(dataset: DataSet, run_id: str) -> dict[str, Any]:
    """The run's row, if it kept all of its faults. Raises DataSetError."""
    run = next((one for one in dataset.runs(columns=_OF_RUN) if one["run_id"] == run_id), None)
    if run is None:
        raise DataSetError(f"there is no run {run_id}: `loadgen-report export --table runs` lists them")
    if not whole(run):
        raise DataSetError(f"run {run_id} kept only some of its faults: run it with a larger faults_limit")
    return run


def whole(run: Mapping[str, Any]) -> bool:
    """Whether no fault of the run was left out or dropped."""
    return (run["sample_every"] or 1) == 1 and not run["records_dropped"]


def _faults(dataset: DataSet, run: Mapping[str, Any], number: int) -> Iterator[pa.RecordBatch]:
    for batch in dataset.batches_of_run("faults", run["run_id"], run["sweep_id"], _COLUMNS):
        rounds = batch.column("round").fill_null(0).to_numpy(zero_copy_only=False)
        yield batch.filter(pa.array(rounds == number))
