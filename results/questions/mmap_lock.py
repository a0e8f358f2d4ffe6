"""How do latency tails grow with threads that take the mmap_lock for writing, and who takes it for reading?"""

from __future__ import annotations

from results.figures import decimals, us
from results.statistics.design import grouped
from results.statistics.percentiles import shown_of
from results.store.dataset import DataSet
from results.summaries.measured import ok_runs
from results.summaries.net import NOTE, bracket, ends, net_text
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

LATENCIES = ("latency_p50_ns", "latency_p99_ns", "latency_p999_ns")
NET = "latency_p50_net_ns"
CPU = "cpu_ns_per_page_net"
CAUSES = ("probe", "populate", "resolve", "fault")
_COLUMNS = (
    "strategy",
    "mmap_writers",
    "mmap_writer_achieved_per_s",
    "faults",
    *LATENCIES,
    *ends(NET),
    "cpu_ns_per_page",
    *ends(CPU),
    *(f"mmap_lock_reads_{cause}" for cause in CAUSES),
)


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a strategy and number of writers; medians over repeats. Raises DataSetError without a run."""
    runs = ok_runs(dataset, _COLUMNS, sweep_id, "mmap_lock")
    groups = grouped(runs, ("strategy", "mmap_writers"))
    rows = []
    for (strategy, writers), group in groups.items():
        achieved = median_or_none(run["mmap_writer_achieved_per_s"] for run in group)
        per_1000 = (
            median_or_none(
                None
                if run[f"mmap_lock_reads_{cause}"] is None or not run["faults"]
                else run[f"mmap_lock_reads_{cause}"] * 1e3 / run["faults"]
                for run in group
            )
            for cause in CAUSES
        )
        rows.append(
            (
                strategy,
                str(writers),
                decimals(achieved, 0),
                us(median_or_none(run["latency_p50_ns"] for run in group)),
                net_text(bracket(group, NET), us),
                *(us(median_or_none(shown_of(group, column))) for column in LATENCIES[1:]),
                us(median_or_none(run["cpu_ns_per_page"] for run in group)),
                net_text(bracket(group, CPU), us),
                *(decimals(value, 0) for value in per_1000),
            )
        )
    heads = (
        *("strategy", "writers", "maps/s", "p50 us", "net us", "p99 us", "p99.9 us", "CPU us", "net CPU us"),
        *(f"reads: {cause}" for cause in CAUSES),
    )
    notes = [
        "percentiles: exact, of each run's faults, then the median run; p99.9 from 10,000 faults on",
        "net us: the median of faults, each without the emulated operations it paid for",
        "CPU us: of vCPUs, readers and rings, a page",
        NOTE,
        "reads: the mmap_lock taken for reading by vCPUs, per 1000 faults, by cause (fault: the kernel's own page fault); "
        "-: not counted, because tracefs cannot be read",
        "the probe of the emulated no_slow_gup takes the lock, which the real proposal would not: no claim about locks between "
        "the two exit strategies can be made from this engine",
    ]
    return answered(heads, rows, list(groups.values()), notes, keys=2)
