"""How soon does a restored guest run, and what does it wait for? The baselines of today beside the strategies."""

from __future__ import annotations

from results.figures import cell, decimals, ms
from results.schema import RUN_COLUMNS
from results.statistics.design import axes, grouped
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.measured import ok_runs, vcpus_of_runs
from results.summaries.restore import RUN_COLUMNS as MEASURED_RUN
from results.summaries.restore import VCPU_COLUMNS as MEASURED_VCPU
from results.summaries.restore import restore
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

ROWS = ("strategy", "source_cache", "prefetch")
"""The columns every row has; other axes where runs alike in these differ in them."""

_NOT_SHOWN = ("strategy_options", "memory_type", "sweep_id", "readers", "reader_cpus")
_AXES = tuple(column.name for column in RUN_COLUMNS if column.axis)
_COLUMNS = ("pages", "pages_resolved", "prefetched_pages", "prefetch_late", "memory_errors", "emulated_s")

_TIMES = ("first_touch_ns", "resident_50_ns", "resident_90_ns", "resident_100_ns", "longest_stall_ns")
"""What is shown of a run's progress, in this order."""


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a configuration, medians over repeats, soonest first for each state of the cache. Raises DataSetError: no run."""
    wanted = dict.fromkeys((*_COLUMNS, *_AXES, *MEASURED_RUN))
    runs = ok_runs(dataset, wanted, sweep_id, "restore")
    every = vcpus_of_runs(dataset, MEASURED_VCPU, sweep_id)
    vcpus = {run_id: marked for run_id, rows in every.items() if (marked := [row for row in rows if row["mark_ns"]])}
    runs = [run for run in runs if run["run_id"] in vcpus]
    if not runs:
        raise DataSetError("no run has stamps of its progress: `loadgen experiment=restore` makes some that do")
    differing = axes(runs, ROWS, _NOT_SHOWN)
    rows = []
    for key, group in grouped(runs, (*ROWS, *differing)).items():
        measured = [restore(run, vcpus[run["run_id"]]) for run in group]
        half = median_or_none(one.resident_50_ns for one in measured)
        row = (
            *map(cell, key),
            str(len(group)),
            *(ms(median_or_none(getattr(one, name) for one in measured)) for name in _TIMES),
            decimals(median_or_none(None if run["emulated_s"] is None else run["emulated_s"] * 1e3 for run in group), 2),
            decimals(median_or_none(one.second_touch_ns for one in measured), 0),
            cell(median_or_none(run["pages_resolved"] for run in group)),
            cell(median_or_none(run["prefetched_pages"] for run in group)),
            cell(median_or_none(run["prefetch_late"] for run in group)),
        )
        rows.append((cell(group[0]["source_cache"]), half is None, half or 0.0, row, group))
    heads = (
        *(axis.replace("_", " ") for axis in (*ROWS, *differing)),
        "runs",
        "first touch ms",
        "50 % ms",
        "90 % ms",
        "100 % ms",
        "longest stall ms",
        "emulated ms",
        "second touch ns",
        "on demand",
        "prefetched",
        "late",
    )
    notes = (
        "first touch: from the common start to the first access done by any vCPU",
        "50, 90, 100 %: until so many pages are resident (resolved for a vCPU, or installed by the prefetcher)",
        "longest stall: of one access of a vCPU; eager has none after its first touch, which waits for all of memory",
        "emulated: calibrated cost of the emulated operations, part of the whole time",
        "second touch: mean time of an access in the second pass, with the generator's own overhead",
        "late: pages already in flight when the prefetcher reached them; that of file_map reads ahead into the page cache",
    )
    rows.sort(key=lambda row: row[:3])
    keys = len(ROWS) + len(differing)
    return answered(heads, [row for *_, row, _ in rows], [group for *_, group in rows], notes, keys=keys)
