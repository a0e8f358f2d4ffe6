"""How many readers should a userfaultfd have, and how should they wait?"""

from __future__ import annotations

from collections import defaultdict

from results.figures import cell, decimals, thousand, us
from results.statistics.design import grouped
from results.store.dataset import DataSet
from results.summaries.measured import ok_runs
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

AXES = ("strategy", "vcpus", "cores", "wait", "readers_per_uffd")
_VALUES = ("pages_per_s", "duration_s", "latency_p50_ns", "latency_p99_ns", "events", "reads", "reads_empty")


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a way to wait and a number of readers. Raises DataSetError without a run."""
    runs = ok_runs(dataset, (*AXES, *_VALUES), sweep_id, "readers")
    cpu_ns: dict[str, int] = defaultdict(int)
    for thread in dataset.read("threads", ["run_id", "role", "user_ns", "system_ns"], sweep_id).to_pylist():
        if thread["role"] == "reader":
            cpu_ns[thread["run_id"]] += (thread["user_ns"] or 0) + (thread["system_ns"] or 0)
    rows = []
    groups = grouped(runs, AXES)
    for key, group in groups.items():
        shares = [
            cpu_ns[run["run_id"]] / 1e9 / run["duration_s"] for run in group if run["duration_s"] and run["run_id"] in cpu_ns
        ]
        rows.append(
            (
                *map(cell, key),
                str(len(group)),
                thousand(median_or_none(run["pages_per_s"] for run in group)),
                *(us(median_or_none(run[column] for run in group)) for column in ("latency_p50_ns", "latency_p99_ns")),
                decimals(median_or_none(_ratio(run["events"], run["reads"]) for run in group), 2),
                decimals(median_or_none(_ratio(run["reads_empty"], run["events"]) for run in group), 2),
                decimals(median_or_none(shares), 2),
            )
        )
    heads = (
        *(axis.replace("_", " ") for axis in AXES),
        "runs",
        "kpages/s",
        "p50 us",
        "p99 us",
        "events a read",
        "empty reads an event",
        "reader CPUs",
    )
    notes = (
        "medians over repeats; p50, p99: exact percentiles of each run's faults, then the median run",
        "reader CPUs: CPU time of all readers over the measured time, their time before and after it included, which a spinning "
        "reader uses too",
    )
    return answered(heads, rows, list(groups.values()), notes, keys=len(AXES))


def _ratio(amount: int | None, of: int | None) -> float | None:
    return amount / of if amount is not None and of else None
