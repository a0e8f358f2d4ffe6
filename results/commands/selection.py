"""What every command that looks at runs takes: a data set, and which runs of it."""

from __future__ import annotations

import argparse
from typing import Any

from results.statistics.design import having
from results.store.dataset import DataSet
from results.store.locations import DataSetError


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """DATASET."""
    parser.add_argument("dataset", metavar="DATASET", help="folder or URI of a data set")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """--sweep and --where."""
    parser.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    parser.add_argument(
        "--where",
        metavar="PARAMETER=VALUE",
        action="append",
        default=[],
        help="only runs with this value of a column or configuration key; may be given several times",
    )


def selected(dataset: DataSet, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of `runs` asked for. Raises DataSetError for a sweep, parameter or value that is not there."""
    runs = dataset.runs(arguments.sweep)
    for condition in arguments.where:
        runs = [dict(run) for run in having(runs, *parameter_and_value(condition, "--where"))]
    return runs


def parameter_and_value(text: str, option: str) -> tuple[str, str]:
    """`text` split at its first `=`. Raises DataSetError without one."""
    parameter, equals, value = text.partition("=")
    if not equals or not parameter:
        raise DataSetError(f"{option} {text}: give it as PARAMETER=VALUE, for example {option} strategy=uffd_wait")
    return parameter, value
