"""The counters of a hazard's experiment by strategy and by whatever was varied: what the hazard did, and how the runs ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.figures import cell, decimals
from results.schema import RUN_COLUMNS
from results.statistics.design import Row, axes, grouped
from results.store.dataset import DataSet
from results.summaries.measured import every_run
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

COUNTED = (
    "pages_dropped",
    "removes",
    "populate_waits",
    "stray_waits",
    "memory_errors",
    "eagain_changing",
    "partial",
    "contents_lost",
    "device_accesses",
    "device_sleeps",
    "device_waits",
    "device_refused",
    "device_poisoned",
    "lost_races",
    "resolved_again",
    "pages_poisoned",
    "events_dropped",
    "wakes",
    "pages_gone",
    "wrong_words",
)
"""Shown where they are above 0 in some run."""
SLEEPS = ("device_sleep_p50_ns", "device_sleep_max_ns")
DEVICE_SLEPT = ("device slept p50 us", "device slept max us")
ASLEEP = ("asleep p50 us", "asleep max us")


def answer(experiment: str, dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a configuration, counters summed over its repeats. Raises DataSetError when there is no run."""
    wanted = (*(column.name for column in RUN_COLUMNS if column.axis), "config_json", *COUNTED, *SLEEPS)
    runs = every_run(dataset, wanted, sweep_id, experiment)
    by = ("strategy", *axes(runs, known=("strategy",), without=("sweep_id",)))
    shown = [column for column in COUNTED if any(run[column] for run in runs)]
    device_slept = DEVICE_SLEPT if "device_sleeps" in shown else ()
    slept = _asleep_in_populate(dataset, sweep_id) if "populate_waits" in shown else {}
    asleep = ASLEEP if slept else ()
    groups = grouped(runs, by)
    rows = [
        (
            *(cell(value) for value in values),
            ", ".join(f"{count} {status}" for status, count in Counter(run["status"] for run in group).most_common()),
            *(str(sum(run[column] or 0 for run in group)) for column in shown),
            *(_device_slept(group) if device_slept else ()),
            *(_durations(group, slept) if asleep else ()),
        )
        for values, group in groups.items()
    ]
    heads = (*(_head(text) for text in by), "runs", *(_head(text) for text in shown), *device_slept, *asleep)
    return answered(heads, rows, list(groups.values()), list(_notes(runs, shown, bool(asleep))), keys=len(by))


def _head(name: str) -> str:
    return name.rpartition(".")[2].replace("_", " ")


def _notes(runs: Sequence[Row], shown: Sequence[str], asleep: bool) -> Iterator[str]:
    yield f"counters are sums over repeats; those that are 0 everywhere are left out{'' if shown else ': here all of them'}"
    if "device_sleeps" in shown:
        yield "device slept: accesses of devices that slept in the kernel; the median over repeats, and the longest"
    if asleep:
        yield "asleep: accesses whose vCPU slept inside its own MADV_POPULATE_WRITE until a reader resolved the page"
    for run in runs:
        if run["status"] != "ok":
            yield f"{run['status']}: {run['run_id']}: {run['reason']}"


def _asleep_in_populate(dataset: DataSet, sweep_id: str | None) -> dict[str, list[int]]:
    """Durations in ns by run. A reader stamps `fetched_ns` of a fault it answers; a populate that need not sleep has none."""
    columns = ("run_id", "outcome", "raised_ns", "fetched_ns", "resumed_ns")
    slept: dict[str, list[int]] = {}
    for fault in dataset.read("faults", columns, sweep_id).to_pylist():
        if fault["outcome"] == "populated" and fault["fetched_ns"] is not None:
            slept.setdefault(fault["run_id"], []).append(fault["resumed_ns"] - fault["raised_ns"])
    return slept


def _device_slept(group: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    median, longest = ([run[column] for run in group if run[column]] for column in SLEEPS)
    return (
        decimals(median_or_none(ns / 1e3 for ns in median), 1),
        decimals(max((ns / 1e3 for ns in longest), default=None), 1),
    )


def _durations(group: Sequence[Mapping[str, Any]], slept: Mapping[str, list[int]]) -> tuple[str, str]:
    all_ns = sorted(ns for run in group for ns in slept.get(run["run_id"], ()))
    if not all_ns:
        return "-", "-"
    return decimals(all_ns[len(all_ns) // 2] / 1e3, 1), decimals(all_ns[-1] / 1e3, 1)
