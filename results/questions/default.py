"""Which way of resolving guest page faults is fast here, and which does not scale?"""

from __future__ import annotations

from results.figures import cell, thousand
from results.statistics.design import baseline_of, grouped
from results.statistics.intervals import coverage
from results.store.dataset import DataSet
from results.summaries.measured import ok_runs
from results.summaries.summary import median_or_none, ratio_to
from results.tables.answer import Answer, answered
from results.tables.estimates import RATIO_MARKS, ratio

AXES = ("fault_mix", "memory_type", "cores", "strategy")
VALUE = "pages_per_s"


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a fault mix and strategy: its rate at each number of vCPUs, how it scales, and its rate against the baseline's.

    Raises DataSetError without a run.
    """
    runs = ok_runs(dataset, (*AXES, "vcpus", VALUE), sweep_id, "default")
    baseline = baseline_of(run["strategy"] for run in runs)
    numbers = sorted({run["vcpus"] for run in runs})
    fewest, most = numbers[0], numbers[-1]
    cells = {key: {run["repeat"]: run for run in group} for key, group in grouped(runs, (*AXES, "vcpus")).items()}
    groups = grouped(runs, AXES)
    rows = []
    for key in groups:
        at = [cells.get((*key, number), {}) for number in numbers]
        base = cells.get((*key[:-1], baseline, most), {})
        rows.append(
            (
                *map(cell, key),
                *(thousand(median_or_none(run[VALUE] for run in repeats.values())) for repeats in at),
                *((ratio(ratio_to(at[0], list(at[-1].values()), VALUE)),) if most > fewest else ()),
                ratio(ratio_to(base, list(at[-1].values()), VALUE)),
            )
        )
    plural = "s" if most != 1 else ""
    heads = (
        *(axis.replace("_", " ") for axis in AXES),
        *(f"{number} vCPU{'s' if number != 1 else ''}" for number in numbers),
        *((f"{most} / {fewest}",) if most > fewest else ()),
        f"x {baseline}",
    )
    repeats = min(len({run["repeat"] for run in group}) for group in groups.values())
    notes = [
        f"kpages/s, medians over repeats; x {baseline}: at {most} vCPU{plural}",
        *([f"{most} / {fewest}: the rate at {most} vCPU{plural} divided by that at {fewest}"] if most > fewest else []),
        *([f"intervals: {coverage(repeats):.1%} coverage with {repeats} repeats; {RATIO_MARKS}"] if repeats > 1 else []),
    ]
    return answered(heads, rows, list(groups.values()), notes, keys=len(AXES))
