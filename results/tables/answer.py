"""What a question of the data set is answered with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from results.store.dataset import DataSet


@dataclass(frozen=True)
class Answer:
    """A table as it is printed: heads, rows of text, and lines below it that say how to read them."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


Question = Callable[[DataSet, str | None], Answer]
