"""How good is a fault handler? External ones beside our own page server and a mapped snapshot file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.derive.touched import progress
from results.figures import cell, decimals, ms, thousand, us
from results.statistics.design import Row, grouped
from results.store.dataset import DataSet
from results.summaries.handlers import RUN_COLUMNS, VCPU_COLUMNS, per_page, served_by, switches
from results.summaries.measured import ok_runs, vcpus_of_runs
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

AXES = ("access_order", "vcpus", "served by")
OURS = "ours"

NOTES = (
    "served by: an external handler by its command; ours: our page server, through its own door; file_map: a private mapping",
    "kpages/s: pages that vCPUs touched; x ours: as a multiple of ours at the same order and number of vCPUs",
    "50, 90, 100 %: until so many of the touched pages were; stall: the longest access of a vCPU",
    "ahead: touched pages that were there before, by the kernel's own count of faults; untouched: mapped at the end and never "
    "touched (pagemap)",
    "CPU us, switches: of the handler's threads, a page; MiB: its peak, mapped pages of the snapshot included",
)


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row an order, a number of vCPUs and a server; medians over repeats. Raises DataSetError: no run."""
    runs = ok_runs(dataset, RUN_COLUMNS, sweep_id, "handler")
    return table_of(runs, vcpus_of_runs(dataset, VCPU_COLUMNS, sweep_id))


def table_of(runs: Sequence[Row], vcpus: Mapping[str, Sequence[Row]]) -> Answer:
    """The table, from rows of `runs` and, by run, of `vcpus`."""
    named = [{**run, "served by": served_by(run), **progress(vcpus.get(run["run_id"], ()))} for run in runs]
    groups = grouped(named, AXES)
    rates = {key: median_or_none(run["pages_per_s"] for run in group) for key, group in groups.items()}
    rows = [_row(key, group, rates[key], rates.get((*key[:2], OURS))) for key, group in groups.items()]
    heads = (
        *("access", "vcpus", "served by", "runs", "kpages/s", "x ours", "p50 us", "p99 us", "50 % ms", "90 % ms", "100 % ms"),
        *("stall ms", "ahead", "untouched", "CPU us", "switches", "MiB", "threads"),
    )
    return answered(heads, rows, list(groups.values()), NOTES, keys=len(AXES))


def _row(key: Sequence[Any], group: Sequence[Row], rate: float | None, ours: float | None) -> tuple[str, ...]:
    def of(column: str) -> float | None:
        return median_or_none(run[column] for run in group)

    cpu_ns = (None if run["handler_cpu_s"] is None else run["handler_cpu_s"] * 1e9 for run in group)
    peak = of("handler_peak_bytes")
    return (
        *map(cell, key),
        str(len(group)),
        thousand(rate),
        decimals(rate / ours if rate and ours else None, 2),
        us(of("latency_p50_ns")),
        us(of("latency_p99_ns")),
        *(ms(of(column)) for column in ("touched_50_ns", "touched_90_ns", "touched_100_ns", "longest_stall_ns")),
        cell(of("pages_brought_ahead")),
        cell(of("pages_brought_untouched")),
        us(median_or_none(per_page(run, ns) for run, ns in zip(group, cpu_ns, strict=True))),
        decimals(median_or_none(per_page(run, switches(run)) for run in group), 2),
        decimals(None if peak is None else peak / (1 << 20), 1),
        cell(of("handler_threads")),
    )
