"""`table`: the strategies x vCPUs table, or any column by any two parameters."""

from __future__ import annotations

import argparse

from results.commands.selection import WIDE, add_dataset, add_selection, selected
from results.store.dataset import DataSet
from results.summaries.pivot import pivot
from results.summaries.summary import SUMMARISED, summarise
from results.tables.summary_table import print_pivot, print_summary

DEFAULT_ROWS, DEFAULT_COLUMNS, DEFAULT_VALUE = "strategy", "vcpus", "pages_per_s"


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET, which runs, and what by what."""
    add_dataset(parser)
    add_selection(parser)
    what = "a column, or a configuration key such as strategy.fault_around_pages"
    parser.add_argument("--rows", metavar="PARAMETER", help=f"{what} (default: {DEFAULT_ROWS})")
    parser.add_argument("--cols", metavar="PARAMETER", help=f"the same (default: {DEFAULT_COLUMNS})")
    parser.add_argument("--value", metavar="COLUMN", help=f"a column that is a number (default: {DEFAULT_VALUE})")
    parser.add_argument("--wide", action="store_true", help=WIDE)
    parser.set_defaults(command=table)


def table(arguments: argparse.Namespace) -> int:
    """The summary when nothing else is asked for, else the pivot."""
    dataset = DataSet.existing(arguments.dataset)
    if arguments.rows is None and arguments.cols is None and arguments.value is None:
        print_summary(summarise(selected(dataset, arguments, *SUMMARISED)), wide=arguments.wide)
        return 0
    rows, columns = arguments.rows or DEFAULT_ROWS, arguments.cols or DEFAULT_COLUMNS
    value = arguments.value or DEFAULT_VALUE
    print_pivot(pivot(selected(dataset, arguments, rows, columns, value), rows, columns, value), wide=arguments.wide)
    return 0
