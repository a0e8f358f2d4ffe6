"""The strategies x vCPUs table and the pivot as text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from results.figures import cell, decimals, thousand, us
from results.statistics.intervals import LEVEL, Estimate, coverage, repeats_for
from results.summaries.net import NOTE, net_text
from results.summaries.noise import HEAD as NOISY
from results.summaries.noise import mark
from results.summaries.pivot import Pivot
from results.summaries.summary import LATENCIES, OPEN_LATENCIES, Summary, SummaryRow
from results.tables.console import print_line, print_notes, print_table
from results.tables.estimates import RATIO_MARKS, estimate, median_of, ratio
from results.tables.layout import Table


@dataclass(frozen=True)
class _Shown:
    """A column of the table: its head and its cell of a row; `wide`: only in the wide table. Columns without a value are left
    out."""

    head: str
    cell: Callable[[SummaryRow], str]
    wide: bool = False


def print_summary(summary: Summary, file: TextIO | None = None, *, wide: bool = False) -> None:
    """Print the strategies x vCPUs table, its notes, and a line for every run that is not in it."""
    print_table(summary_table(summary, wide=wide), file, wide=wide)
    print_notes(notes(summary, wide=wide), file)
    for run in summary.not_counted:
        print_line(f"not counted: {run.run_id} {run.strategy} {run.status}: {run.reason or 'no reason given'}", file)


def summary_table(summary: Summary, *, wide: bool) -> Table:
    """The table; the wide one has every column there is."""
    shown = [one for one in _columns(summary) if wide or not one.wide]
    columns = [(one.head, [one.cell(row) for row in summary.rows]) for one in shown]
    columns = [(head, cells) for head, cells in columns if any(text != "-" for text in cells)]
    heads = ("strategy", *(axis.replace("_", " ") for axis in summary.axes), *(head for head, _ in columns))
    rows = [
        (row.strategy, *(cell(row.axes[axis]) for axis in summary.axes), *(cells[number] for _, cells in columns))
        for number, row in enumerate(summary.rows)
    ]
    return Table(heads, rows, 1 + len(summary.axes))


def _columns(summary: Summary) -> Iterator[_Shown]:
    """Every column after the axes. What a background prefetcher brought stands beside the rates, which are of pages that vCPUs
    asked for."""
    against = f"x {summary.baseline}"
    yield _Shown("runs", lambda row: str(row.repeats))
    yield _Shown(NOISY, lambda row: mark(row.flagged, row.repeats))
    yield _Shown("kpages/s", lambda row: estimate(row.pages_per_s, unit=1e3))
    yield _Shown(against, lambda row: _ratio(row, row.ratio))
    yield _Shown("net", lambda row: net_text(row.pages_per_s_net, thousand))
    yield _Shown(f"net {against}", lambda row: net_text(row.ratio_net, lambda value: decimals(value, 2)), wide=True)
    yield _Shown("CPU us", lambda row: us(median_of(row.cpu_ns_per_page)))
    yield _Shown("net CPU us", lambda row: net_text(row.cpu_ns_per_page_net, us))
    yield _Shown("prefetched kpages/s", lambda row: thousand(row.prefetched_pages_per_s or None))
    for name in (*LATENCIES, *OPEN_LATENCIES):
        yield _Shown(_latency_head(name), partial(_latency, name), wide="p999" in name)


def notes(summary: Summary, *, wide: bool = True) -> Iterator[str]:
    """The notes of the table: coverage of the intervals, noise, and where repeats are bimodal."""
    repeats = sorted({row.repeats for row in summary.rows})
    if repeats and repeats[0] > 1:
        yield (
            f"medians over repeats (exact interval: {coverage(repeats[0]):.1%} coverage with {repeats[0]} repeats); {RATIO_MARKS}"
        )
    elif repeats:
        yield f"one run has no spread: repeats={repeats_for(LEVEL)} or more give intervals of at least {LEVEL:.0%} coverage"
    if repeats:
        yield (
            "p50, p99: exact percentiles of each run's faults, then the median run; CPU us: of vCPUs, readers (or an external "
            "handler) and rings, a page"
        )
        yield NOTE
    if any(row.ratio is not None for row in summary.rows) and not wide:
        yield "more columns: loadgen-report table --wide DATASET, and loadgen-report report DATASET"
    if any(row.baseline_flagged and not row.flagged for row in summary.rows):
        yield f"!: runs of {summary.baseline}, which the ratio divides by, are flagged"
    yield from summary.noise
    for row in summary.rows:
        if row.groups:
            where = " ".join(f"{axis}={cell(row.axes[axis])}" for axis in summary.axes)
            lower, upper = (thousand(rate) for rate in row.groups)
            name = f"{row.strategy} !" if row.flagged else row.strategy
            yield f"bimodal: {name} {where}: repeats cluster at {lower} and {upper} kpages/s"


def print_pivot(pivot: Pivot, file: TextIO | None = None, *, wide: bool = False) -> None:
    """Print the pivot, with a line that names what its medians mix."""
    heads = (f"{pivot.rows} \\ {pivot.columns}", *(cell(value) for value in pivot.column_values))
    rows = [(cell(row), *(_pivot_cell(pivot, row, column) for column in pivot.column_values)) for row in pivot.row_values]
    print_table(Table(heads, rows), file, wide=wide)
    marked = "; !: runs of the cell are flagged" if pivot.flagged else ""
    print_notes((f"median of {pivot.value} over runs that are ok{_covered(pivot)}{marked}", *pivot.noise), file)
    if pivot.mixed:
        print_line(f"cells mix runs that differ in: {', '.join(pivot.mixed)}", file)


def _covered(pivot: Pivot) -> str:
    """What the intervals of a pivot's cells hold: of the one with the fewest runs, as the least."""
    least = min((one for one in pivot.cells.values() if one is not None and one.n > 1), key=lambda one: one.n, default=None)
    return "" if least is None else f", with its exact interval: {least.coverage:.1%} coverage or more, at {least.n} runs a cell"


def _ratio(row: SummaryRow, value: Estimate | None) -> str:
    """A ratio, with a mark where only the baseline's runs are flagged: the row's own have a column."""
    return f"{ratio(value)} !" if value is not None and row.baseline_flagged and not row.flagged else ratio(value)


def _pivot_cell(pivot: Pivot, row: Any, column: Any) -> str:
    text = estimate(pivot.cells.get((row, column)))
    return f"{text} !" if (row, column) in pivot.flagged else text


def _latency(name: str, row: SummaryRow) -> str:
    return us(median_of(row.latencies[name]))


def _latency_head(column: str) -> str:
    """`latency_open_p999_ns` as a head."""
    which = column.removeprefix("latency_").removesuffix("_ns").replace("_", " ")
    return which.replace("p999", "p99.9") + " us"
