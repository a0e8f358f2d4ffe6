"""`verify`: does a data set agree with itself?"""

from __future__ import annotations

import argparse

from results.commands.selection import add_dataset
from results.store.dataset import DataSet
from results.tables.console import print_line
from results.verify.verification import verify


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET."""
    add_dataset(parser)
    parser.set_defaults(command=check)


def check(arguments: argparse.Namespace) -> int:
    """A line for everything that disagrees; 1 if anything does."""
    dataset = DataSet.existing(arguments.dataset)
    found = 0
    for disagreement in verify(dataset):
        found += 1
        print(f"{disagreement.run_id}: {disagreement.what}" if disagreement.run_id else disagreement.what)  # one line each
    runs = len(dataset.run_ids("runs"))
    print_line(f"{runs} runs, {found} disagreements" if found else f"{runs} runs, everything agrees")
    return 1 if found else 0
