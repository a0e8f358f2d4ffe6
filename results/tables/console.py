"""Printing for people: tables and lines of at most 100 characters, in plain ASCII, never cropped."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from textwrap import wrap
from typing import TextIO

from results.tables.layout import Table, fitted

WIDEST = 100
NARROWEST = 40


def width() -> int:
    """Characters of a line: as wide as the terminal (or COLUMNS), and at most WIDEST."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def print_table(table: Table, file: TextIO | None = None, *, wide: bool = False) -> None:
    """Print a table, fitted into the width; `wide`: every column beside the others, however wide that is."""
    for line in fitted(table, None if wide else width()):
        print(line, file=file or sys.stdout)


def print_rows(heads: Sequence[str], rows: Iterable[Sequence[str]], file: TextIO | None = None, *, keys: int = 1) -> None:
    """Print rows of text under their heads; the first `keys` columns are what a row is of."""
    print_table(Table(heads, list(rows), keys), file)


def print_notes(notes: Iterable[str], file: TextIO | None = None) -> None:
    """Print lines below a table, set apart from it."""
    for number, note in enumerate(notes):
        if not number:
            print(file=file or sys.stdout)
        print_line(note, file)


def print_line(text: str, file: TextIO | None = None, *, indent: str = "  ") -> None:
    """Print a line of text, wrapped at the width; words longer than that stay whole. `indent`: of the lines after the first."""
    for part in wrap(text, width(), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]:
        print(part, file=file or sys.stdout)


def print_as_is(text: str, file: TextIO | None = None) -> None:
    """Print a line that is to be copied, such as a command, however long it is."""
    print(text, file=file or sys.stdout)
