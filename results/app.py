"""`loadgen-report`: tables, comparisons, answers and a report from a data set."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from results.store.locations import DataSetError

COMMANDS = ("show", "table", "stages", "answer", "compare", "report", "export", "verify", "working-set", "trace", "locality")
"""Each is a module of results/commands, which is imported when it is asked for: PyArrow's parts take their time."""


def main(argv: list[str] | None = None) -> int:
    """Run the command. Exit status 0; 1 or 3 from `compare --fail-above` and `verify`; 2, with a message on stderr, when the
    command cannot be carried out."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser(argv).parse_args(argv)
    try:
        status: int = arguments.command(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed its end, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (DataSetError, OSError) as error:
        print(f"loadgen-report: {error}", file=sys.stderr)
        if getattr(error, "errno", None) == errno.ENOSPC:  # what is still buffered cannot be written either
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return status


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the command that is asked for, or of all of them when none is."""
    parser = argparse.ArgumentParser("loadgen-report", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS if not argv or argv[0] not in COMMANDS else argv[:1]:
        module = import_module(f"results.commands.{name.replace('-', '_')}")
        first_line = (module.__doc__ or "").splitlines()[0]
        module.add(commands.add_parser(name, help=first_line.partition(": ")[2].rstrip("."), description=first_line))
    return parser


if __name__ == "__main__":
    sys.exit(main())
