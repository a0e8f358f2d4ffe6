"""The counters of a hazard's experiment, by strategy and by what provoked it: what happened to whom, and was it survived?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from results.figures import cell, decimals
from results.statistics.design import grouped
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, Question

AXES = (
    "strategy",
    "strategy_options",
    "memory_type",
    "disturb",
    "balloon_method",
    "track_removes",
    "balloon_stage2",
    "device_mapping",
)
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
    "pages_gone",
    "wrong_words",
)
"""Shown where they are above 0 in some run."""
SLEEPS = ("device_sleep_p50_ns", "device_sleep_max_ns")
DEVICE_SLEPT = ("device slept p50 us", "device slept max us")
ASLEEP = ("asleep p50 us", "asleep max us")


def hazard(experiment: str) -> Question:
    """The question that `experiment` asks."""
    return partial(hazard_table, experiment)


def hazard_table(experiment: str, dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a configuration, counters summed over its repeats. Raises DataSetError when there is no run."""
    wanted = ("run_id", "status", "reason", *AXES, *COUNTED, *SLEEPS)
    runs = dataset.read("runs", wanted, sweep_id).to_pylist()
    if not runs:
        raise DataSetError(f"no run: this hazard is shown by `loadgen experiment={experiment}`")
    axes = ["strategy", *(axis for axis in AXES[1:] if len({run[axis] for run in runs}) > 1)]
    shown = [column for column in COUNTED if any(run[column] for run in runs)]
    device_slept = DEVICE_SLEPT if "device_sleeps" in shown else ()
    slept = _asleep_in_populate(dataset, sweep_id) if "populate_waits" in shown else {}
    asleep = ASLEEP if slept else ()
    rows = [
        (
            *(cell(value) for value in values),
            *(str(sum(run[column] or 0 for run in group)) for column in shown),
            *(_device_slept(group) if device_slept else ()),
            *(_durations(group, slept) if asleep else ()),
            ", ".join(sorted({run["status"] for run in group})),
        )
        for values, group in grouped(runs, axes).items()
    ]
    heads = (
        *(text.replace("_", " ") for text in (*axes, *shown)),
        *device_slept,
        *asleep,
        "status",
    )
    notes = [f"not ok: {run['run_id']}: {run['reason']}" for run in runs if run["status"] != "ok"]
    if device_slept:
        notes.append("device slept: accesses of devices that slept in the kernel; the median over repeats, and the longest")
    if asleep:
        notes.append("asleep: accesses whose vCPU slept inside its own MADV_POPULATE_WRITE until a reader resolved the page")
    return Answer(heads, rows, notes)


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
