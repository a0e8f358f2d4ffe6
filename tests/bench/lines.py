"""What a case of the bench reports: one line a measure, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table


@dataclass(frozen=True)
class Line:
    """One measure. `met` is None where there is no bar, only a number."""

    case: str
    measure: str
    value: str
    bar: str = ""
    met: bool | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """The line as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """What the command line asks of every case: pairs to measure, seconds a side of a pair, where to build."""

    pairs: int
    seconds: float
    quick: bool
    build: Path


Case = Callable[[Asked], Iterator[Line]]


def table(lines: Iterable[Line]) -> Table:
    """The lines as one readable table."""
    out = Table(title="uffd-loadgen bench", title_justify="left")
    for name in ("case", "measure", "measured", "bar", "met", "note"):
        out.add_column(name, overflow="fold")
    words = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}
    for line in lines:
        out.add_row(line.case, line.measure, line.value, line.bar, words[line.met], line.note)
    return out
