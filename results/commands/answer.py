"""`answer`: the table of an experiment."""

from __future__ import annotations

import argparse

from results import questions
from results.commands.selection import WIDE, add_dataset, add_trusted_only
from results.store.dataset import DataSet
from results.tables.answer import print_answer


def add(parser: argparse.ArgumentParser) -> None:
    """QUESTION and DATASET."""
    parser.add_argument("question", metavar="QUESTION", help=f"the experiment's name: {', '.join(questions.names())}")
    parser.add_argument("--sweep", metavar="ID", help="only this sweep (default: all)")
    add_dataset(parser)
    add_trusted_only(parser)
    parser.add_argument("--wide", action="store_true", help=WIDE)
    parser.set_defaults(command=answer)


def answer(arguments: argparse.Namespace) -> int:
    """Print the experiment's own table and the lines below it."""
    found = questions.answer(
        arguments.question, DataSet.existing(arguments.dataset), arguments.sweep, trusted_only=arguments.trusted_only
    )
    print_answer(found, wide=arguments.wide)
    return 0
