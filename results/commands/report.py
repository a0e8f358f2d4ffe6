"""`report`: one HTML file with everything a data set shows; needs no network."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from results.commands.selection import add_dataset, add_selection, selected
from results.store.dataset import DataSet
from results.store.locations import DataSetError

DEFAULT_OUT = "report.html"


def add(parser: argparse.ArgumentParser) -> None:
    """DATASET, which runs, and where to."""
    add_dataset(parser)
    add_selection(parser)
    parser.add_argument("--out", metavar="FILE", default=DEFAULT_OUT, help=f"default: {DEFAULT_OUT}")
    parser.set_defaults(command=report)


def report(arguments: argparse.Namespace) -> int:
    """Write the file, whole or not at all."""
    from results.report.page import html  # Matplotlib is not loaded for the other commands

    dataset = DataSet.existing(arguments.dataset)
    out = Path(arguments.out)
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise DataSetError(f"--out {out}: give a file in a folder that is there")
    text = html(dataset, selected(dataset, arguments), lambda what: print(what, file=sys.stderr))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=out.absolute().parent, suffix=".part", delete=False) as part:
        part.write(text)
    os.chmod(part.name, 0o644)
    os.replace(part.name, out)
    print(f"{out} ({len(text.encode()) / 1e6:.1f} MB)")
    return 0
