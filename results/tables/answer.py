"""What a question of the data set is answered with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from results.store.dataset import DataSet
from results.tables.console import print_notes, print_table
from results.tables.layout import Table


@dataclass(frozen=True)
class Answer:
    """A table as it is printed: heads, rows of text, and lines below it that say how to read them. `keys`: how many of the first
    columns say what a row is of."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    keys: int = 1


Question = Callable[[DataSet, str | None], Answer]


def print_answer(answer: Answer, file: TextIO | None = None, *, wide: bool = False) -> None:
    """Print its table and the lines below it."""
    print_table(Table(answer.heads, answer.rows, answer.keys), file, wide=wide)
    print_notes(answer.notes, file)
