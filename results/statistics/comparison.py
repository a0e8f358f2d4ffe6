"""Two sides, A and B, cell by cell: which configurations moved, by how much, and how sure that is.

How many repeats count is fixed before anything is looked at: as many as the sweeps planned, or as asked for. A cell that has
fewer, or that was run again, is not judged: adding runs until a difference appears finds one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from results.schema import RUN_COLUMNS
from results.statistics.design import Row, axes, grouped, numeric, settings
from results.statistics.intervals import Estimate, chance, paired_ratio, unpaired_ratio
from results.store.locations import DataSetError

HOST_FIELDS = ("host", "kernel", "cpu_model", "host_cpus", "memory_bytes")
"""Runs that differ in one of these were not measured on the same machine."""

_TIMES = ("ns", "us", "s")


@dataclass(frozen=True)
class Side:
    """Rows of `runs`, and what they are called."""

    name: str
    runs: Sequence[Row]


@dataclass(frozen=True)
class Cell:
    """One configuration on both sides. `ratio`: B / A; `undecided`: why it is not judged, else empty.

    `moved`: the interval of the ratio excludes 1. `worse`: it moved, and to the worse; None where no direction is better.
    """

    values: Mapping[str, Any]
    a: float | None
    b: float | None
    ratio: Estimate | None
    undecided: str
    moved: bool
    worse: bool | None

    @property
    def change(self) -> float:
        """B's change from A, in parts of A; 0 where it is not known."""
        return 0.0 if self.ratio is None else self.ratio.value - 1


@dataclass(frozen=True)
class Comparison:
    """`axes`: what tells the cells apart. `paired`: whether both sides were run beside each other, repeat by repeat; then
    ratios are taken within a repeat. `by_chance`: how many judged cells would seem to move if nothing had."""

    a: str
    b: str
    value: str
    repeats: int
    paired: bool
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    only_a: int
    only_b: int
    by_chance: float

    def failed(self, above: float) -> list[Cell]:
        """Cells that are worse by more than `above` (parts of A), or not judged at all; where no direction is better, those
        that moved by more."""
        return [
            cell for cell in self.cells if cell.undecided or (cell.moved and cell.worse is not False and abs(cell.change) > above)
        ]


def compare(
    a: Side, b: Side, value: str, *, by: str | None = None, across: Sequence[str] = (), repeats: int | None = None
) -> Comparison:
    """Compare column `value` of two sides. `by`: the parameter in which they differ on purpose, when both are of one data set.

    `across`: fields in which hosts, or parameters in which configurations, may differ. Raises DataSetError when there is nothing
    to compare or hosts differ in another field.
    """
    numeric(value)
    sides = [[run for run in side.runs if run["status"] == "ok"] for side in (a, b)]
    for side, ok in zip((a, b), sides, strict=True):
        if not ok:
            raise DataSetError(f"{side.name}: no run that is ok, so there is nothing to compare")
    _refuse_other_hosts(a.name, b.name, sides, across)
    wanted = repeats or _planned(sides)
    paired = by is not None
    everything = [*sides[0], *sides[1]]
    # What differs with the parameter compared by, and never without it, follows from it.
    key = axes(everything, known=(by,), without=across) if by else axes(everything, without=("sweep_id", *across))
    cells_a, cells_b = (grouped(side, key) for side in sides)
    common = [values for values in cells_a if values in cells_b]
    cells = [
        _cell(dict(zip(key, values, strict=True)), cells_a[values], cells_b[values], value, wanted, paired) for values in common
    ]
    if not cells:
        raise DataSetError(f"{a.name} and {b.name} have no configuration in common: {_nearest(cells_a, cells_b, key)}")
    shown = tuple(name for name in key if len({cell.values[name] for cell in cells}) > 1)
    return Comparison(
        a=a.name,
        b=b.name,
        value=value,
        repeats=wanted,
        paired=paired,
        axes=shown,
        cells=tuple(cells),
        only_a=len(cells_a) - len(cells),
        only_b=len(cells_b) - len(cells),
        by_chance=chance(wanted, paired) * sum(not cell.undecided for cell in cells),
    )


def better(value: str) -> str:
    """`higher`, `lower` or empty: which direction of a column of `runs` is better, by its unit: rates and times."""
    unit = next((column.unit for column in RUN_COLUMNS if column.name == value), "")
    if unit.endswith("/s"):
        return "higher"
    return "lower" if unit in _TIMES else ""


def _cell(values: Mapping[str, Any], a: Sequence[Row], b: Sequence[Row], value: str, wanted: int, paired: bool) -> Cell:
    undecided = _undecided(a, b, wanted)
    side_a, side_b = ({run["repeat"]: run[value] for run in side if run["repeat"] < wanted} for side in (a, b))
    if paired:
        ratio = paired_ratio((side_a[repeat], side_b[repeat]) for repeat in side_a if repeat in side_b)
    else:
        ratio = unpaired_ratio(side_a.values(), side_b.values())
    if not undecided and ratio is None:
        undecided = f"{value} was not measured, or is 0 in A"
    moved = not undecided and ratio is not None and not ratio.includes(1.0)
    direction = better(value)
    worse = None
    if moved and direction and ratio is not None:
        worse = (ratio.value < 1) == (direction == "higher")
    return Cell(values, _middle(side_a.values()), _middle(side_b.values()), ratio, undecided, moved, worse)


def _undecided(a: Sequence[Row], b: Sequence[Row], wanted: int) -> str:
    for name, side in (("A", a), ("B", b)):
        repeats = [run["repeat"] for run in side]
        if len(set(repeats)) < len(repeats):
            sweeps = sorted({run["sweep_id"] for run in side})
            return f"{name} was run again ({len(sweeps)} sweeps: {', '.join(sweeps)}); choose one with --where sweep_id=..."
        there = sum(repeat < wanted for repeat in repeats)
        if there < wanted:
            return f"{name} has {there} of {wanted} repeats that are ok"
    return "" if wanted > 1 else "one repeat says nothing of its spread"


def _middle(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(median(there)) if there else None


def _planned(sides: Sequence[Sequence[Row]]) -> int:
    """Repeats that the sweeps planned; where their configuration does not say, those that there are."""
    planned = [int(settings(run).get("repeats") or 0) for side in sides for run in side]
    last: int = max(run["repeat"] for side in sides for run in side)
    return max(planned) or last + 1


def _refuse_other_hosts(name_a: str, name_b: str, sides: Sequence[Sequence[Row]], across: Sequence[str]) -> None:
    for field in HOST_FIELDS:
        in_a, in_b = ({run.get(field) for run in side} for side in sides)
        if field not in across and in_a != in_b:
            said_a, said_b = (", ".join(sorted(map(str, values))) for values in (in_a, in_b))
            raise DataSetError(
                f"{name_a} and {name_b} were not measured on the same host: {field} is {said_a} in A and {said_b} in B; "
                f"if you mean to compare them all the same: --across {','.join((*across, field))}"
            )


def _nearest(cells_a: Mapping[tuple[Any, ...], Any], cells_b: Mapping[tuple[Any, ...], Any], key: Sequence[str]) -> str:
    for number, name in enumerate(key):
        in_a, in_b = ({values[number] for values in cells} for cells in (cells_a, cells_b))
        if not in_a & in_b:
            said_a, said_b = (", ".join(sorted(map(str, values))) for values in (in_a, in_b))
            return f"{name} is {said_a} in A and {said_b} in B (if that is what you compare: --across {name})"
    return "no combination of " + ", ".join(key) + " is in both"
