"""`show`: what is in a data set."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from results.commands.selection import add_dataset
from results.figures import cell
from results.schema import COLUMNS
from results.statistics.design import Row, axes, described, value_of
from results.store.dataset import DataSet
from results.summaries.noise import flagged, noise
from results.tables.console import print_as_is, print_line, print_rows


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET and --columns."""
    add_dataset(parser)
    parser.add_argument("--columns", action="store_true", help="every column of every table, with its unit and meaning")
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace) -> int:
    """Sweeps with their runs by status and noise, what was varied, commands, hosts, unfinished runs."""
    dataset = DataSet.existing(arguments.dataset)
    runs = dataset.runs(columns=described())
    by_sweep: dict[str, list[Row]] = {sweep: [] for sweep in dataset.sweeps()}
    for run in runs:
        by_sweep.setdefault(run["sweep_id"], []).append(run)
    sweeps = "1 sweep" if len(by_sweep) == 1 else f"{len(by_sweep)} sweeps"
    print_as_is(f"data set {dataset.uri}, schema version {dataset.version}: {len(runs)} runs in {sweeps}")
    if by_sweep:
        print_as_is("")
        heads = ("sweep", "started (UTC)", "runs", "status", "flagged", "not judged", "faults")
        print_rows(heads, [_row(sweep, mine) for sweep, mine in by_sweep.items()])
        print_as_is("")
    for host in dict.fromkeys(f"{run['host']} ({run['kernel']})" for run in runs):
        print_line(f"host: {host}")
    for axis in axes(runs, without=("sweep_id",)):
        values = dict.fromkeys(cell(value_of(run, axis)) for run in runs)
        print_line(f"varied: {axis} = {', '.join(values)}")
    for line in noise([run for run in runs if run["status"] == "ok"]):
        print_line(line)
    for command in dict.fromkeys(run["command"] for run in runs if run["command"]):
        print_as_is(f"repeat it: {command}")
    for run_id in dataset.unfinished():
        print_line(f"unfinished, in _incoming: {run_id} (being written, or to be deleted if no driver is running)")
    if arguments.columns:
        _print_columns()
    return 0


def _row(sweep: str, runs: Sequence[Row]) -> tuple[str, ...]:
    statuses = Counter(run["status"] for run in runs)
    return (
        sweep,
        min((f"{run['started_at']:%Y-%m-%d %H:%M:%S}" for run in runs if run["started_at"]), default="-"),
        str(len(runs)),
        ", ".join(f"{count} {status}" for status, count in statuses.most_common()),
        str(flagged(runs)),
        str(sum(run["trusted"] is None for run in runs)),
        str(sum(run["fault_records"] or 0 for run in runs)),
    )


def _print_columns() -> None:
    for table, columns in COLUMNS.items():
        print_as_is(f"\n{table}:")
        for column in columns:
            print_line(f"  {column.name:24} {column.unit or '-':14} {column.meaning}", indent=" " * 42)
