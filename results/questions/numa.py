"""What does it cost when pages, vCPUs and readers are on different NUMA nodes?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from results.statistics.design import Row
from results.store.dataset import DataSet
from results.summaries.measured import ok_runs
from results.tables.answer import Answer, answered
from results.tables.rate_table import RATES, rate_table

AXES = ("numa", "placement")
_FOUND = ("page_nodes", "vcpu_nodes", "reader_nodes")


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a place of pages and threads, compared with the first. Raises DataSetError without a run."""
    runs = ok_runs(dataset, (*AXES, *RATES, *_FOUND), sweep_id, "numa")
    runs.sort(key=lambda run: (run["placement"] != "same_node", run["placement"], run["numa"]))
    heads, rows, groups = rate_table(runs, AXES, [runs[0][axis] for axis in AXES])
    for row, group in zip(rows, groups, strict=True):
        row[len(AXES) : len(AXES)] = [_shares(group), *(_nodes(group, column) for column in _FOUND[1:])]
    heads[len(AXES) : len(AXES)] = ["pages on node 0,1,..", "vCPUs on", "readers on"]
    notes = (
        f"thousand pages/s, medians over repeats; x base: times the strategy's own rate with memory.numa={runs[0]['numa']} "
        f"placement={runs[0]['placement']}; CPU us: of vCPUs, readers and rings, a page",
        "pages on node: shares of the mapped pages at the end; vCPUs, readers on: every node that one of them ran on",
    )
    return answered(heads, rows, groups, notes, keys=len(AXES))


def _shares(group: Sequence[Row]) -> str:
    counts = [run["page_nodes"] for run in group if run["page_nodes"]]
    sums = [sum(on) for on in zip_longest(*counts, fillvalue=0)]
    return ", ".join(f"{100 * on / sum(sums):.0f}%" for on in sums) if any(sums) else "-"


def _nodes(group: Sequence[Row], column: str) -> str:
    found = sorted({node for run in group for node in run[column] or ()})
    return ", ".join(map(str, found)) or "-"
