"""`working-set`: a run's pages in the order it first touched them, as prefetch=working_set takes them."""

from __future__ import annotations

import argparse
import sys

from results.commands.selection import add_dataset
from results.store.dataset import DataSet
from results.summaries.working_set import working_set


def add(parser: argparse.ArgumentParser) -> None:
    """--run, --out and DATASET."""
    parser.add_argument("--run", metavar="ID", required=True, help="a run without prefetch, all its faults kept")
    parser.add_argument("--out", metavar="FILE", required=True, help="page numbers, one a line")
    add_dataset(parser)
    parser.set_defaults(command=write)


def write(arguments: argparse.Namespace) -> int:
    """Write the file; how many pages it holds goes to standard error."""
    pages = working_set(DataSet.existing(arguments.dataset), arguments.run)
    with open(arguments.out, "w", encoding="utf-8") as out:
        out.writelines(f"{page}\n" for page in pages)
    print(f"{len(pages)} pages of run {arguments.run} in {arguments.out}", file=sys.stderr)
    return 0
