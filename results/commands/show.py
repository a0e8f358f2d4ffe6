"""`show`: what is in a data set."""

from __future__ import annotations

import argparse
from collections import Counter

from results.commands.selection import add_dataset
from results.figures import cell
from results.schema import COLUMNS
from results.statistics.design import axes, value_of
from results.store.dataset import DataSet
from results.tables.console import print_line, print_rows


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET and --columns."""
    add_dataset(parser)
    parser.add_argument("--columns", action="store_true", help="every column of every table, with its unit and meaning")
    parser.set_defaults(command=show)


def show(arguments: argparse.Namespace) -> int:
    """Sweeps with their runs by status, what was varied, what was not trusted, runs unfinished."""
    dataset = DataSet.existing(arguments.dataset)
    runs = dataset.runs()
    sweeps = dataset.sweeps()
    print_line(f"data set {dataset.uri}, schema version {dataset.version}: {len(runs)} runs in {len(sweeps)} sweeps")
    by_sweep = []
    for sweep in sweeps:
        mine = [run for run in runs if run["sweep_id"] == sweep]
        statuses = Counter(run["status"] for run in mine)
        by_sweep.append(
            (
                sweep,
                min((f"{run['started_at']:%Y-%m-%d %H:%M:%S}" for run in mine if run["started_at"]), default="-"),
                str(len(mine)),
                ", ".join(f"{count} {status}" for status, count in statuses.most_common()),
                str(sum(run["trusted"] is False for run in mine)),
                str(sum(run["fault_records"] or 0 for run in mine)),
                ", ".join(sorted({f"{run['host']} ({run['kernel']})" for run in mine})),
            )
        )
    if by_sweep:
        print_rows(("sweep", "started (UTC)", "runs", "status", "not trusted", "fault records", "hosts"), by_sweep)
    for axis in axes(runs, without=("sweep_id",)):
        values = dict.fromkeys(cell(value_of(run, axis)) for run in runs)
        print_line(f"varied: {axis} = {', '.join(values)}")
    for command in dict.fromkeys(run["command"] for run in runs if run["command"]):
        print_line(f"repeat it: {command}")
    for run_id in dataset.unfinished():
        print_line(f"unfinished, in _incoming: {run_id} (being written, or to be deleted if no driver is running)")
    if arguments.columns:
        for table, columns in COLUMNS.items():
            print_line(f"\n{table}:")
            for column in columns:
                print_line(f"  {column.name:24} {column.unit or '-':14} {column.doc}")
    return 0
