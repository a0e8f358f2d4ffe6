"""`answer`: the table of an experiment."""

from __future__ import annotations

import argparse

from results import questions
from results.commands.selection import add_dataset
from results.store.dataset import DataSet
from results.tables.answer import print_answer


def add(parser: argparse.ArgumentParser) -> None:
    """QUESTION and DATASET."""
    parser.add_argument("question", metavar="QUESTION", help=f"the experiment's name: {', '.join(questions.names())}")
    parser.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    add_dataset(parser)
    parser.set_defaults(command=answer)


def answer(arguments: argparse.Namespace) -> int:
    """Print the experiment's own table and what to know of it."""
    found = questions.answer(arguments.question, DataSet.existing(arguments.dataset), arguments.sweep)
    print_answer(found)
    return 0
