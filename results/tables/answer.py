"""What a question of the data set is answered with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from results.statistics.design import Row
from results.store.dataset import DataSet
from results.summaries.noise import HEAD as NOISY
from results.summaries.noise import flagged, mark, noise
from results.tables.console import print_notes, print_table
from results.tables.layout import Table


@dataclass(frozen=True)
class Answer:
    """A table as it is printed: heads, rows of text, and lines below it on how to read them. `keys`: how many of the first
    columns are what a row is of. `noise`: lines about flagged runs and runs not judged."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    keys: int = 1
    noise: Sequence[str] = ()


def answered(
    heads: Sequence[str], rows: Sequence[Sequence[str]], groups: Sequence[Sequence[Row]], notes: Sequence[str], keys: int = 1
) -> Answer:
    """An answer whose rows are marked where runs of theirs are flagged as noisy. `groups`: the runs of each row."""
    every = list({run["run_id"]: run for group in groups for run in group}.values())
    if flagged(every):
        heads = (*heads[:keys], NOISY, *heads[keys:])
        rows = [(*row[:keys], mark(flagged(group), len(group)), *row[keys:]) for row, group in zip(rows, groups, strict=True)]
    return Answer(heads, rows, notes, keys, list(noise(every)))


Question = Callable[[DataSet, str | None], Answer]


def print_answer(answer: Answer, file: TextIO | None = None, *, wide: bool = False, noise: bool = True) -> None:
    """Print its table and the lines below it; `noise`: those about noise too."""
    print_table(Table(answer.heads, answer.rows, answer.keys), file, wide=wide)
    print_notes((*answer.notes, *(answer.noise if noise else ())), file)
