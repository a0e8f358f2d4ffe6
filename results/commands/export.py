"""`export`: the rows of a table in other formats."""

from __future__ import annotations

import argparse
import sys

from results.commands.selection import add_dataset
from results.schema import COLUMNS
from results.store.dataset import DataSet
from results.store.export import FORMATS, export
from results.store.locations import DataSetError


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET, which table and columns, and where to."""
    add_dataset(parser)
    parser.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    parser.add_argument("--table", choices=list(COLUMNS), default="runs", help="default: runs")
    parser.add_argument("--columns", metavar="A,B,...", help="only these, in this order (default: all)")
    parser.add_argument("--format", choices=FORMATS, default="csv", help="default: csv")
    parser.add_argument("--out", metavar="FILE", help="default: standard output")
    parser.set_defaults(command=write)


def write(arguments: argparse.Namespace) -> int:
    """Write the rows batch by batch."""
    dataset = DataSet.existing(arguments.dataset)
    names = _columns(arguments)
    batches = dataset.batches(arguments.table, names, arguments.sweep)
    if arguments.out is None:
        export(batches, names, arguments.format, sys.stdout)
        return 0
    with open(arguments.out, "w", encoding="utf-8", newline="") as out:
        count = export(batches, names, arguments.format, out)
    print(f"{count} rows of {arguments.table} in {arguments.out}", file=sys.stderr)
    return 0


def _columns(arguments: argparse.Namespace) -> list[str]:
    """The columns asked for, checked before anything is written. Raises DataSetError."""
    known = [column.name for column in COLUMNS[arguments.table]]
    if arguments.columns is None:
        return known
    names: list[str] = arguments.columns.split(",")
    for name in names:
        if name not in known:
            raise DataSetError(
                f"--columns {arguments.columns}: {arguments.table} has no column {name!r}; it has: {', '.join(known)}"
            )
        if names.count(name) > 1:
            raise DataSetError(f"--columns {arguments.columns}: {name} is named twice")
    return names
