"""`loadgen-report`: what is in a data set, tables from it, and its rows in other formats."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from results import questions
from results.export import FORMATS, export
from results.location import DataSetError
from results.pivot import pivot
from results.schema import COLUMNS
from results.store import DataSet
from results.summary import summary
from results.tables import print_notes, print_pivot, print_rows, print_summary

DEFAULT_ROWS, DEFAULT_COLUMNS, DEFAULT_VALUE = "strategy", "vcpus", "pages_per_s"


def main(argv: list[str] | None = None) -> int:
    """Run the command; 0, or 2 with a message on stderr when it cannot be done."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except (DataSetError, OSError) as error:
        print(f"loadgen-report: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("loadgen-report", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("show", help="what is in a data set: sweeps, runs by status, hosts, columns")
    show.set_defaults(command=_show)

    table = commands.add_parser("table", help="the strategies x vCPUs table, or any column by any two others")
    table.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    table.add_argument("--rows", metavar="COLUMN", help=f"default: {DEFAULT_ROWS}")
    table.add_argument("--cols", metavar="COLUMN", help=f"default: {DEFAULT_COLUMNS}")
    table.add_argument("--value", metavar="COLUMN", help=f"default: {DEFAULT_VALUE}")
    table.set_defaults(command=_table)

    answer = commands.add_parser("answer", help=f"the table of an experiment: {', '.join(questions.names())}")
    answer.add_argument("question", metavar="QUESTION", help="the experiment's name")
    answer.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    answer.set_defaults(command=_answer)

    rows = commands.add_parser("export", help="the rows of a table as CSV or JSON lines")
    rows.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    rows.add_argument("--table", choices=list(COLUMNS), default="runs", help="default: runs")
    rows.add_argument("--format", choices=FORMATS, default="csv", help="default: csv")
    rows.add_argument("--out", metavar="FILE", help="default: standard output")
    rows.set_defaults(command=_export)

    for command in (show, table, answer, rows):
        command.add_argument("dataset", metavar="DATASET", help="folder or URI of a data set")
    return parser


def _show(arguments: argparse.Namespace) -> None:
    dataset = DataSet.existing(arguments.dataset)
    runs = dataset.read("runs", ["sweep_id", "status", "host", "kernel", "started_at", "fault_records"]).to_pylist()
    sweeps = dataset.sweeps()
    print(f"data set {dataset.uri}, schema version {dataset.version}: {len(runs)} runs in {len(sweeps)} sweeps")
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
                str(sum(run["fault_records"] or 0 for run in mine)),
                ", ".join(sorted({f"{run['host']} ({run['kernel']})" for run in mine})),
            )
        )
    if by_sweep:
        print_rows(("sweep", "started (UTC)", "runs", "status", "fault records", "hosts"), by_sweep)
    for run in dataset.unfinished():
        print(f"unfinished, in _incoming: {run} (being written, or to be deleted if no driver is running)")
    for table, columns in COLUMNS.items():
        print(f"\n{table}:")
        for column in columns:
            print(f"  {column.name:24} {column.unit or '-':14} {column.doc}")


def _table(arguments: argparse.Namespace) -> None:
    dataset = DataSet.existing(arguments.dataset)
    if arguments.rows is None and arguments.cols is None and arguments.value is None:
        print_summary(summary(dataset, arguments.sweep))
        return
    rows, columns = arguments.rows or DEFAULT_ROWS, arguments.cols or DEFAULT_COLUMNS
    print_pivot(pivot(dataset, rows, columns, arguments.value or DEFAULT_VALUE, arguments.sweep))


def _answer(arguments: argparse.Namespace) -> None:
    answer = questions.answer(arguments.question, DataSet.existing(arguments.dataset), arguments.sweep)
    print_rows(answer.heads, answer.rows)
    print_notes(answer.notes)


def _export(arguments: argparse.Namespace) -> None:
    dataset = DataSet.existing(arguments.dataset)
    names = [column.name for column in COLUMNS[arguments.table]]
    batches = dataset.batches(arguments.table, sweep_id=arguments.sweep)
    if arguments.out is None:
        export(batches, names, arguments.format, sys.stdout)
        return
    with open(arguments.out, "w", encoding="utf-8", newline="") as out:
        count = export(batches, names, arguments.format, out)
    print(f"{count} rows of {arguments.table} in {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
