"""How a table is fitted into a width without leaving anything out.

What does not vary among the rows stands in a line above. Heads are wrapped. Where that is not enough, a column that separates
rows becomes headings of blocks, long text is wrapped, and columns that do not fit follow below, beside the same first columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from textwrap import wrap

GAP = "  "
NARROWEST_TEXT = 24
"""Text is wrapped to no less than this many characters."""

_NUMBER = re.compile(r"[-+~*!?<>=%./()\d\s]*|-")
_UNIT = re.compile(r"(?<=\d) ?(?:times|[kMG]iB|[mun]?s)\b")


@dataclass(frozen=True)
class Table:
    """Heads and rows of text. `keys`: how many of the first columns are what a row is of, and no measurements."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: int = 1

    def without(self, columns: Sequence[int]) -> Table:
        """The same without some columns, by number."""
        kept = [number for number in range(len(self.heads)) if number not in columns]
        return self.only(kept)

    def only(self, columns: Sequence[int]) -> Table:
        """Some columns of it, by number, in that order."""
        return Table(
            [self.heads[number] for number in columns],
            [[row[number] for number in columns] for row in self.rows],
            sum(number < self.keys for number in columns),
        )

    def column(self, number: int) -> list[str]:
        """The cells of one column."""
        return [row[number] for row in self.rows]


def is_number(text: str) -> bool:
    """Whether a cell holds numbers, and not words: an interval does, and a dash."""
    return bool(_NUMBER.fullmatch(_UNIT.sub("", text)))


def constant(table: Table, *, measurements: bool = False) -> tuple[str, Table]:
    """The columns of one value in words, and the table without them: those that are what a row is of, but the first; and
    `measurements` too, unless none of them varies."""
    same = [number for number in range(1, len(table.heads)) if len(set(table.column(number))) == 1]
    if not measurements or len(same) == len(table.heads) - 1:
        same = [number for number in same if number < table.keys]
    return ", ".join(f"{table.heads[number]} {table.rows[0][number]}" for number in same), table.without(same)


def fitted(table: Table, width: int | None) -> Iterator[str]:
    """The table line by line, in at most `width` characters if its words allow it. None: as wide as it is, in one piece."""
    if width is None or not table.rows:
        yield from _drawn(table, table)
        return
    said, left = constant(table)
    if _width(left) > width:
        said, left = constant(table, measurements=True)
    table = left
    if said:
        yield from wrap(f"all rows: {said}", width, break_long_words=False, break_on_hyphens=False)
        yield ""
    headings = list(_headings(table, width))
    inside = _wrapped(table.without(headings), width)
    if _width(inside) > width:  # blocks do not make it fit, and pieces below each other do without them
        headings, inside = [], _wrapped(table, width)
    blocks: dict[str, list[Sequence[str]]] = {}
    for row, shown in zip(table.rows, inside.rows, strict=True):
        above = ", ".join(f"{table.heads[number]} {row[number]}" for number in headings)
        blocks.setdefault(above, []).append(shown)
    for number, (above, rows) in enumerate(blocks.items()):
        yield from ([""] if number else []) + ([f"{above}:"] if above else [])
        yield from _pieces(Table(inside.heads, rows, inside.keys), inside, width)


def _headings(table: Table, width: int) -> Iterator[int]:
    """Columns that head blocks of rows, so that the others fit: those that make the fewest blocks first, as long as a block has
    at least two rows on average and a column is left to name a row by."""
    left = list(range(len(table.heads)))
    by: list[int] = []
    while _width(table.only(left)) > width:
        keys = left[: table.keys - len(by)]
        blocks = {key: sum(1 for _ in groupby(table.rows, itemgetter(*by, key))) for key in keys}
        fewest = min(keys, key=lambda key: blocks[key], default=0)
        if len(keys) < 2 or blocks[fewest] > len(table.rows) / 2:
            return
        by.append(fewest)
        left.remove(fewest)
        yield fewest


def _pieces(table: Table, like: Table, width: int) -> Iterator[str]:
    """The table as wide as `like`, its last columns below the others where they do not fit."""
    keys = list(range(table.keys))
    rest = list(range(table.keys, len(table.heads)))
    first = True
    while rest or first:
        count = len(rest)
        while count > 1 and _width(like.only([*keys, *rest[:count]])) > width:
            count -= 1
        columns = [*keys, *rest[:count]]
        yield from [] if first else [""]
        yield from _drawn(table.only(columns), like.only(columns))
        rest, first = rest[count:], False


def _wrapped(table: Table, width: int) -> Table:
    """The table with its widest text wrapped, as far as it helps."""
    rows = [list(row) for row in table.rows]
    while (excess := _width(Table(table.heads, rows, table.keys)) - width) > 0:
        widths = {
            number: max(_longest(row[number]) for row in rows)
            for number in range(len(table.heads))
            if not all(is_number(cell) for cell in table.column(number))
        }
        number = max(widths, key=lambda number: widths[number], default=None)
        if number is None or widths[number] <= NARROWEST_TEXT:
            break
        narrower = max(NARROWEST_TEXT, widths[number] - excess)
        for row in rows:
            row[number] = "\n".join(
                part for line in row[number].split("\n") for part in wrap(line, narrower, break_long_words=False) or [""]
            )
        if max(_longest(row[number]) for row in rows) >= widths[number]:
            break
    return Table(table.heads, rows, table.keys)


def _drawn(table: Table, like: Table) -> Iterator[str]:
    """The lines of a table, its columns as wide as those of `like`: text to the left, numbers to the right."""
    widths = _widths(like)
    right = [bool(like.rows) and all(map(is_number, like.column(number))) for number in range(len(like.heads))]

    def line(cells: Sequence[str]) -> str:
        placed = (cell.rjust(size) if to else cell.ljust(size) for cell, size, to in zip(cells, widths, right, strict=True))
        return GAP.join(placed).rstrip()

    heads = [wrap(head, size, break_long_words=False) or [""] for head, size in zip(table.heads, widths, strict=True)]
    tallest = max(map(len, heads), default=0)
    for number in range(tallest):
        yield line([head[number - tallest] if number >= tallest - len(head) else "" for head in heads])
    yield GAP.join("-" * size for size in widths)
    for row in table.rows:
        cells = [cell.split("\n") for cell in row]
        for number in range(max(map(len, cells))):
            yield line([cell[number] if number < len(cell) else "" for cell in cells])


def _width(table: Table) -> int:
    return sum(_widths(table)) + len(GAP) * (len(table.heads) - 1)


def _widths(table: Table) -> list[int]:
    return [
        max((*(len(word) for word in head.split()), *(_longest(row[number]) for row in table.rows)), default=0)
        for number, head in enumerate(table.heads)
    ]


def _longest(cell: str) -> int:
    return max(map(len, cell.split("\n")))
