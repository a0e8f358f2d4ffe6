"""What does sharing page tables and a userfaultfd cost? The same vCPUs in one VMM process, in several, and sharded."""

from __future__ import annotations

from results.store.dataset import DataSet
from results.summaries.measured import ok_runs
from results.tables.answer import Answer, answered
from results.tables.rate_table import RATES, rate_table

AXES = ("vcpus", "vcpus_per_vmm", "uffds_per_vmm", "readers")


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a way of sharing, compared with the one that shares most. Raises DataSetError without a run."""
    runs = ok_runs(dataset, (*AXES, *RATES), sweep_id, "sharing")
    runs.sort(key=lambda run: (run["vcpus"], -run["vcpus_per_vmm"], run["uffds_per_vmm"], run["readers"]))
    base = [runs[0][axis] for axis in AXES]
    heads, rows, groups = rate_table(runs, AXES, base)
    notes = (
        f"thousand pages/s, medians over repeats; x base: times the strategy's own rate with {base[1]} vCPUs in a VMM process on "
        f"{base[2]} userfaultfd; CPU us: of vCPUs, readers and rings, a page",
        "vcpus per vmm: vCPUs that share page tables; uffds per vmm: userfaultfds their mapping is sharded over",
    )
    return answered(heads, rows, groups, notes, keys=len(AXES))
