"""What every command that looks at runs takes: a data set, and which runs of it."""

from __future__ import annotations

import argparse

from results.statistics.design import Row, described, having
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.noise import trusted_only

WIDE = "every column side by side, however wide that is"


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """DATASET."""
    parser.add_argument("dataset", metavar="DATASET", help="folder or URI of a data set")


def add_selection(parser: argparse.ArgumentParser) -> None:
    """--sweep, --where and --trusted-only."""
    parser.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    parser.add_argument(
        "--where",
        metavar="PARAMETER=VALUE",
        action="append",
        default=[],
        help="only runs with this value of a column or configuration key; may be given several times",
    )
    add_trusted_only(parser)


def add_trusted_only(parser: argparse.ArgumentParser) -> None:
    """--trusted-only."""
    parser.add_argument("--trusted-only", action="store_true", help="leave out runs flagged as noisy, and runs not judged")


def selected(dataset: DataSet, arguments: argparse.Namespace, *columns: str | None) -> list[Row]:
    """The rows of `runs` asked for, whole; with `columns` only these and what describes a run. Raises DataSetError for a sweep,
    parameter or value that no run has."""
    where = [parameter_and_value(condition, "--where") for condition in arguments.where]
    read = described(*columns, *(parameter for parameter, _ in where)) if columns else None
    runs: list[Row] = list(dataset.runs(arguments.sweep, read))
    for condition in where:
        runs = having(runs, *condition)
    return list(trusted_only(runs)) if arguments.trusted_only else runs


def parameter_and_value(text: str, option: str) -> tuple[str, str]:
    """`text` split at its first `=`. Raises DataSetError without one."""
    parameter, equals, value = text.partition("=")
    if not equals or not parameter:
        raise DataSetError(f"{option} {text}: give it as PARAMETER=VALUE, for example {option} strategy=uffd_wait")
    return parameter, value
