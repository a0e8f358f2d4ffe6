"""What does each exit strategy gain and lose? Each point of the kernel discussion is one measured line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from results.figures import decimals
from results.statistics.design import Row
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.measured import ok_runs
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

STRATEGIES = ("no_slow_gup", "no_uffd_wait")
CAUSES = {
    "probe": "the emulated probe (the real one takes none)",
    "populate": "populate",
    "resolve": "resolve",
    "fault": "the kernel's page fault",
}


@dataclass(frozen=True)
class Line:
    """`counted` (columns of `runs`, summed) for every `times` of `among`, over the runs in which `when` holds."""

    text: str
    when: Callable[[Row], bool]
    counted: Sequence[str]
    among: str
    times: float = 1e3

    def of(self, run: Row) -> float | None:
        """Its value in one run; None where it was not, or cannot be, counted."""
        counts = [run[column] for column in self.counted]
        if None in counts or not run[self.among]:
            return None
        return float(sum(counts) / run[self.among] * self.times)


def _nothing(run: Row) -> bool:
    return bool(run["disturb"] == "none")


def _balloon(run: Row) -> bool:
    return bool(run["disturb"] == "balloon")


def _tracked(run: Row) -> bool:
    return _balloon(run) and bool(run["track_removes"])


def _untracked(run: Row) -> bool:
    return _balloon(run) and not run["track_removes"]


def _devices(run: Row) -> bool:
    return bool(run["disturb"] == "devices")


LINES = (
    *(
        Line(f"mmap_lock reads by {who}; 1000 faults", _nothing, (f"mmap_lock_reads_{cause}",), "faults")
        for cause, who in CAUSES.items()
    ),
    Line("extra trips: pages that slow GUP alone could repair; 1000 swapped pages", _nothing, ("populate_ok",), "swapped_pages"),
    Line("fault latency p50, us, raw", _nothing, ("latency_p50_ns",), "one", 1e-3),
    Line("fault latency p50, us, net: at least", _nothing, ("latency_p50_net_low_ns",), "one", 1e-3),
    Line("fault latency p50, us, net: at most", _nothing, ("latency_p50_net_high_ns",), "one", 1e-3),
    Line("CPU time a page, us, raw", _nothing, ("cpu_ns_per_page",), "one", 1e-3),
    Line("CPU time a page, us, net: at least", _nothing, ("cpu_ns_per_page_net_low",), "one", 1e-3),
    Line("CPU time a page, us, net: at most", _nothing, ("cpu_ns_per_page_net_high",), "one", 1e-3),
    Line("dropped, untracked: asleep in its own populate; 1000 drops", _untracked, ("populate_waits",), "pages_dropped"),
    Line("dropped, untracked: taken for a memory error; 1000 drops", _untracked, ("memory_errors",), "pages_dropped"),
    Line("dropped, tracked: asleep in its own populate; 1000 drops", _tracked, ("populate_waits",), "pages_dropped"),
    Line("dropped, tracked: taken for a memory error; 1000 drops", _tracked, ("memory_errors",), "pages_dropped"),
    Line("tracking: remove events to read; 1000 drops", _tracked, ("removes",), "pages_dropped"),
    Line(
        "tracking: exits that only a record of resolved pages answers; 1000 trips",
        _nothing,
        ("populate_ok", "populate_failed", "retries"),
        "trips",
    ),
    Line("device accesses that sleep until a reader serves them; 1000 accesses", _devices, ("device_waits",), "device_accesses"),
    Line("length of such a sleep, p50, us", _devices, ("device_sleep_p50_ns",), "one", 1e-3),
    Line("length of such a sleep, p99, us", _devices, ("device_sleep_p99_ns",), "one", 1e-3),
    Line("device accesses refused with EFAULT; 1000 accesses", _devices, ("device_refused",), "device_accesses"),
)
_COLUMNS = (
    "disturb",
    "track_removes",
    *dict.fromkeys(column for line in LINES for column in (*line.counted, line.among) if column != "one"),
)


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a pro or con; medians over repeats. Raises DataSetError without a run of both strategies."""
    runs = [run | {"one": 1} for run in ok_runs(dataset, _COLUMNS, sweep_id, "exit_tradeoffs") if run["strategy"] in STRATEGIES]
    if {run["strategy"] for run in runs} != set(STRATEGIES):
        raise DataSetError(f"no run of {' beside '.join(STRATEGIES)}: both are measured by `loadgen experiment=exit_tradeoffs`")
    rows = [(line.text, *_values(line, runs)) for line in LINES]
    notes = [
        "medians over repeats; -: not counted, or no such run",
        "the lock counts are of this engine's emulations (a probe that reads pagemap, an exit that is a SIGBUS) and support no "
        "claim about locks between the two exit strategies",
        "only a record answers: EEXIST of a resolve is a lost race, a swapped page and poison alike",
    ]
    groups = [[run for run in runs if line.when(run)] for line in LINES]
    return answered(("pro or con", *STRATEGIES), rows, groups, notes)


def _values(line: Line, runs: Sequence[Row]) -> Iterator[str]:
    for strategy in STRATEGIES:
        value = median_or_none(line.of(run) for run in runs if run["strategy"] == strategy and line.when(run))
        yield decimals(value, 1)
