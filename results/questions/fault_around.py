"""How many pages should one fault resolve, in order and at random, against populating everything at once?"""

from __future__ import annotations

import json
from typing import Any

from results.figures import thousand
from results.statistics.design import Row
from results.store.dataset import DataSet
from results.summaries.measured import ok_runs
from results.summaries.net import NOTE
from results.summaries.noise import flagged, mark
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered
from results.tables.rate_table import RATES, rate_table

AXES = ("access_order", "fault_around_pages")
AT_ONCE = "eager"


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row an access order and a number of pages a fault. Raises DataSetError without a run."""
    runs = ok_runs(dataset, ("access_order", "strategy_options", "pages", *RATES), sweep_id, "fault_around")
    for run in runs:
        run["fault_around_pages"] = json.loads(run["strategy_options"] or "{}").get("fault_around_pages")
    by_fault = [run for run in runs if run["fault_around_pages"] is not None]
    by_fault.sort(key=lambda run: (run["access_order"], run["fault_around_pages"]))
    strategies = [run["strategy"] for run in by_fault]
    heads: list[str] = []
    rows: list[list[str]] = []
    groups: list[list[Row]] = []
    for order in dict.fromkeys(run["access_order"] for run in by_fault):  # each is compared with one page a fault in its own
        mine = [run for run in by_fault if run["access_order"] == order]
        heads, part, its_groups = rate_table(mine, AXES, [order, 1], strategies)
        rows, groups = rows + part, groups + its_groups
    notes = [
        "thousand pages/s, medians over repeats; x base: times the strategy's own rate at 1 page a fault, in the same order; "
        "CPU us: of vCPUs, readers and rings, a page",
        NOTE,
    ]
    populated = [run for run in runs if run["strategy"] == AT_ONCE]
    at_once = median_or_none(_populated_per_s(dataset, populated, sweep_id))
    if at_once is not None:
        marked = f"; noisy: {mark(flagged(populated), len(populated))}" if flagged(populated) else ""
        what = f"one MADV_POPULATE_WRITE over everything, by one thread ({AT_ONCE})"
        notes.append(f"{what}: {thousand(at_once)} thousand pages/s{marked}")
    return answered(heads, rows, groups, notes, keys=len(AXES))


def _populated_per_s(dataset: DataSet, runs: list[dict[str, Any]], sweep_id: str | None) -> list[float]:
    """Pages a second of those runs until everything was mapped, before the first access."""
    populated: dict[str, int] = {}
    started: dict[str, int] = {}
    for vcpu in dataset.read("vcpus", ["run_id", "start_ns", "mark_ns", "mark_accesses"], sweep_id).to_pylist():
        started[vcpu["run_id"]] = min(vcpu["start_ns"], started.get(vcpu["run_id"], vcpu["start_ns"]))
        for at, done in zip(vcpu["mark_ns"] or (), vcpu["mark_accesses"] or (), strict=True):
            if done == 0:
                populated[vcpu["run_id"]] = max(at, populated.get(vcpu["run_id"], 0))
    return [
        run["pages"] / (populated[run["run_id"]] - started[run["run_id"]]) * 1e9 for run in runs if run["run_id"] in populated
    ]
