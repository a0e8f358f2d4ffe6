"""Tables for people: in colour on a terminal, plain ASCII (Markdown) elsewhere, never cropped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from results.figures import cell, decimals, thousand, us
from results.statistics.intervals import LEVEL, Estimate, coverage, repeats_for
from results.statistics.verdicts import INCONCLUSIVE, MARGIN, NO_DIFFERENCE, equivalent, written
from results.summaries.pivot import Pivot
from results.summaries.summary import LATENCIES, OPEN_LATENCIES, Summary

_UNCROPPED = 10_000


def print_summary(summary: Summary, file: TextIO | None = None) -> None:
    """Print the strategies x vCPUs table, what its intervals can promise, and a line for every run that is not in it."""
    console = _console(file)
    _print_table(console, *summary_cells(summary))
    for line in notes(summary):
        _print_line(console, line)
    for run in summary.not_counted:
        reason = run.reason or "no reason given"
        _print_line(console, f"not counted: {run.run_id} {run.strategy} {run.status}: {reason}")


def summary_cells(summary: Summary) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Heads and rows of the strategies x vCPUs table. What a background stream brought and open-loop latencies stand beside the
    others where there are any: the other rates are of pages that vCPUs asked for."""
    opened = [name for name in OPEN_LATENCIES if any(row.latencies[name] for row in summary.rows)]
    prefetched = any(row.prefetched_pages_per_s for row in summary.rows)
    against = f"x {summary.baseline}"
    heads = (
        *("strategy", *(axis.replace("_", " ") for axis in summary.axes), "runs", "kpages/s", "interval"),
        *(against, "interval", "net kpages/s", f"net {against}", "interval"),
        *(("prefetched kpages/s",) if prefetched else ()),
        *(_latency_head(name) for name in (*LATENCIES, *opened)),
    )
    rows = [
        (
            *(row.strategy, *(cell(row.axes[axis]) for axis in summary.axes), str(row.repeats)),
            *(thousand(value_of_estimate(row.pages_per_s)), spread(row.pages_per_s, 1e3, 1)),
            *(speed_up(row.ratio), ratio_spread(row.ratio)),
            *(thousand(value_of_estimate(row.pages_per_s_net)), speed_up(row.ratio_net), ratio_spread(row.ratio_net)),
            *((thousand(row.prefetched_pages_per_s),) if prefetched else ()),
            *(us(value_of_estimate(row.latencies[name])) for name in (*LATENCIES, *opened)),
        )
        for row in summary.rows
    ]
    return heads, rows


def notes(summary: Summary) -> Iterator[str]:
    """What a reader of the table must know: what the intervals promise, and where repeats fall into two groups."""
    repeats = sorted({row.repeats for row in summary.rows})
    if repeats and repeats[0] > 1:
        yield (
            f"medians over repeats with exact intervals: {coverage(repeats[0]):.1%} coverage with {repeats[0]} repeats; "
            f"{NO_DIFFERENCE}: the interval lies within {MARGIN:.0%} of 1; {INCONCLUSIVE}: it includes 1 and more"
        )
    elif repeats:
        yield f"one run has no spread: repeats={repeats_for(LEVEL)} or more give intervals of at least {LEVEL:.0%} coverage"
    for row in summary.rows:
        if row.groups:
            where = " ".join(f"{axis}={cell(row.axes[axis])}" for axis in summary.axes)
            lower, upper = (thousand(rate) for rate in row.groups)
            yield f"{row.strategy} {where}: bimodal: repeats cluster at {lower} and {upper} kpages/s"


def print_pivot(pivot: Pivot, file: TextIO | None = None) -> None:
    """Print the pivot, with a line that names what its medians mix."""
    console = _console(file)
    heads = (f"{pivot.rows} \\ {pivot.columns}", *(cell(value) for value in pivot.column_values))
    rows = [
        (cell(row), *(estimate(pivot.cells.get((row, column))) for column in pivot.column_values)) for row in pivot.row_values
    ]
    _print_table(console, heads, rows)
    _print_line(console, f"median of {pivot.value} over runs that are ok, with its exact interval")
    if pivot.mixed:
        _print_line(console, f"cells mix runs that differ in: {', '.join(pivot.mixed)}")


def print_rows(heads: Sequence[str], rows: Iterable[Sequence[str]], file: TextIO | None = None) -> None:
    """Print rows of text under their heads."""
    _print_table(_console(file), heads, rows)


def print_notes(notes: Iterable[str], file: TextIO | None = None) -> None:
    """Print lines below a table, each as long as it is."""
    for note in notes:
        print_line(note, file)


def print_line(text: str, file: TextIO | None = None) -> None:
    """Print a line of text, as long as it is."""
    _print_line(_console(file), text)


def _console(file: TextIO | None) -> Console:
    return Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False)


def _print_table(console: Console, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=box.SIMPLE_HEAD if console.is_terminal else box.MARKDOWN)
    for number, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    needed = Measurement.get(console, console.options.update(max_width=_UNCROPPED), table).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _print_line(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def estimate(value: Estimate | None, digits: int = 5) -> str:
    """A median with its interval, as `cell` writes numbers."""
    if value is None:
        return "-"
    middle, low, high = (cell(number, digits) for number in (value.value, value.low, value.high))
    return middle if value.low is None else f"{middle} ({low}..{high})"


def value_of_estimate(value: Estimate | None) -> float | None:
    """The median alone."""
    return None if value is None else value.value


def speed_up(ratio: Estimate | None) -> str:
    """A ratio, or that its interval does not tell it from 1. One whose interval is 1 alone (the baseline's own) is written."""
    if ratio is None:
        return "-"
    if ratio.low is not None and ratio.low != ratio.high:
        if equivalent(ratio):
            return NO_DIFFERENCE
        if ratio.includes(1.0):
            return INCONCLUSIVE
    return written([ratio.value], (1.0,))[0]


def spread(value: Estimate | None, unit: float, digits: int) -> str:
    """An interval in `unit`s."""
    if value is None or value.low is None or value.high is None or value.low == value.high:
        return "-"
    return f"{decimals(value.low / unit, digits)}..{decimals(value.high / unit, digits)}"


def ratio_spread(ratio: Estimate | None) -> str:
    """The interval of a ratio, each end on its side of 1."""
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low == ratio.high:
        return "-"
    return "..".join(written([ratio.low, ratio.high], (1.0,)))


def _latency_head(column: str) -> str:
    """`latency_open_p999_ns` as people say it."""
    which = column.removeprefix("latency_").removesuffix("_ns").replace("_", " ")
    return which.replace("p999", "p99.9") + " us"
