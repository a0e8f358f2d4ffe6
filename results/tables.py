"""Tables for people: in colour on a terminal, plain ASCII (Markdown) elsewhere, never cropped."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from results.pivot import Pivot
from results.summary import Summary

_UNCROPPED = 10_000
_MEASURED = (
    "runs",
    "kpages/s",
    "lowest..highest",
    "x uffd_wait",
    "net kpages/s",
    "net x uffd_wait",
    "p50 us",
    "p99 us",
    "p99.9 us",
)


def print_summary(summary: Summary, file: TextIO | None = None) -> None:
    """Print the strategies x vCPUs table, and a line for every run that is not in it."""
    console = _console(file)
    rows = [
        (
            row.strategy,
            *(cell(row.axes[axis]) for axis in summary.axes),
            str(row.repeats),
            thousand(row.pages_per_s),
            _spread(row.pages_per_s_lowest, row.pages_per_s_highest),
            decimals(row.ratio, 2),
            thousand(row.pages_per_s_net),
            decimals(row.ratio_net, 2),
            *(_us(ns) for ns in (row.latency_p50_ns, row.latency_p99_ns, row.latency_p999_ns)),
        )
        for row in summary.rows
    ]
    _print_table(console, ("strategy", *(axis.replace("_", " ") for axis in summary.axes), *_MEASURED), rows)
    for run in summary.not_counted:
        reason = run.reason or "no reason given"
        _print_line(console, f"not counted: {run.run_id} {run.strategy} {run.status}: {reason}")


def print_pivot(pivot: Pivot, file: TextIO | None = None) -> None:
    """Print the pivot, with a line that names what its medians mix."""
    console = _console(file)
    heads = (f"{pivot.rows} \\ {pivot.columns}", *(cell(value) for value in pivot.column_values))
    rows = [(cell(row), *(cell(pivot.cells.get((row, column))) for column in pivot.column_values)) for row in pivot.row_values]
    _print_table(console, heads, rows)
    _print_line(console, f"median of {pivot.value} over runs that are ok")
    if pivot.mixed:
        _print_line(console, f"cells mix runs that differ in: {', '.join(pivot.mixed)}")


def print_rows(heads: Sequence[str], rows: Iterable[Sequence[str]], file: TextIO | None = None) -> None:
    """Print rows of text under their heads."""
    _print_table(_console(file), heads, rows)


def print_notes(notes: Iterable[str], file: TextIO | None = None) -> None:
    """Print lines below a table, each as long as it is."""
    for note in notes:
        _print_line(_console(file), note)


def cell(value: Any) -> str:
    """One value as people read it: "-" for null, five significant digits, no exponent for ordinary sizes."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.5g}"
    return str(value)


def decimals(value: float | None, digits: int) -> str:
    """`value` with that many digits after the point; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def thousand(per_s: float | None) -> str:
    """A rate in thousands; "-" for None."""
    return "-" if per_s is None else decimals(per_s / 1e3, 1)


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


def _spread(lowest: float | None, highest: float | None) -> str:
    return "-" if lowest is None else f"{thousand(lowest)}..{thousand(highest)}"


def _us(ns: float | None) -> str:
    return "-" if ns is None else decimals(ns / 1e3, 1)
