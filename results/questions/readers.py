"""How many readers does a userfaultfd want, and how should they wait?"""

from __future__ import annotations

from collections import defaultdict

from results.figures import cell, decimals, thousand
from results.statistics.design import grouped
from results.store.dataset import DataSet
from results.summaries.summary import median_or_none
from results.tables.answer import Answer
from results.tables.rate_table import ok_runs

AXES = ("strategy", "vcpus", "cores", "wait", "readers_per_uffd")
_VALUES = ("run_id", "duration_s", "latency_p50_ns", "latency_p99_ns", "events", "reads", "reads_empty")


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a way to wait and a number of readers. Raises DataSetError without a run."""
    runs = ok_runs(dataset, (*AXES, *_VALUES), sweep_id, "readers")
    cpu_ns: dict[str, int] = defaultdict(int)
    for thread in dataset.read("threads", ["run_id", "role", "user_ns", "system_ns"], sweep_id).to_pylist():
        if thread["role"] == "reader":
            cpu_ns[thread["run_id"]] += (thread["user_ns"] or 0) + (thread["system_ns"] or 0)
    rows = []
    for key, group in grouped(runs, AXES).items():
        shares = [
            cpu_ns[run["run_id"]] / 1e9 / run["duration_s"] for run in group if run["duration_s"] and run["run_id"] in cpu_ns
        ]
        rows.append(
            (
                *map(cell, key),
                str(len(group)),
                thousand(median_or_none(run["pages_per_s"] for run in group)),
                *(
                    decimals(ns / 1e3 if (ns := median_or_none(run[column] for run in group)) else None, 1)
                    for column in ("latency_p50_ns", "latency_p99_ns")
                ),
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
        "medians over repeats; reader CPUs: CPU time of all readers over the measured phase, with their time before and after: "
        "a spinning reader burns that as well",
    )
    return Answer(heads, rows, notes)


def _ratio(amount: int | None, of: int | None) -> float | None:
    return amount / of if amount is not None and of else None
