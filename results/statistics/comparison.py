"""Two sides, A and B, cell by cell: which configurations differ, by how much, and how sure that is.

How many repeats count is fixed before any value is read: as many as the sweeps planned, or as asked for. A cell that has fewer,
that was run again, or that lacks a value is not judged: runs added until a difference appears always find one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from results.schema import RUN_COLUMNS
from results.statistics.design import Row, axes, grouped, numeric, settings
from results.statistics.intervals import LEVEL, Estimate, paired_ratio, unpaired_ratio
from results.statistics.percentiles import P999_FROM, shown
from results.statistics.significance import ALPHA, holm, rank_sum_test, repeats_needed, sign_test
from results.statistics.verdicts import HIGHER, INCONCLUSIVE, LOWER, MARGIN, WORSE, least_difference, verdict
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
    """One configuration on both sides.

    `ratio`: B / A; `undecided`: why it is not judged, else empty; `p`: of the exact test, corrected for all cells; `verdict`: a
    word of `results.statistics.verdicts`, empty where it is not judged; `least`: the smallest change, in parts of A, that repeats
    of this spread would have shown, None where so few show none; `flagged`: the most of a side's runs that are flagged as noisy,
    as a share.
    """

    values: Mapping[str, Any]
    a: float | None
    b: float | None
    ratio: Estimate | None
    undecided: str
    p: float = 1.0
    verdict: str = ""
    least: float | None = None
    flagged: float = 0.0

    @property
    def change(self) -> float:
        """B's change from A, in parts of A; 0 where it is not known."""
        return 0.0 if self.ratio is None else self.ratio.value - 1


@dataclass(frozen=True)
class Comparison:
    """`axes`: the parameters in which cells differ. `paired`: both sides were run beside each other, repeat by repeat, and ratios
    are taken within a repeat. `needed`: the fewest repeats with which a difference among so many cells can be shown."""

    a: str
    b: str
    value: str
    repeats: int
    paired: bool
    margin: float
    axes: tuple[str, ...]
    cells: tuple[Cell, ...]
    only_a: int
    only_b: int
    needed: int

    @property
    def judged(self) -> list[Cell]:
        """Cells with a verdict."""
        return [cell for cell in self.cells if not cell.undecided]

    def failed(self, above: float) -> list[Cell]:
        """Cells that are worse by more than `above` (parts of A; where no direction is better: that differ by more), and those
        that lack what was planned. Cells that are `refused` are not among them."""
        return [
            cell
            for cell in self.cells
            if cell.undecided
            or (cell.verdict in (WORSE, HIGHER, LOWER) and abs(cell.change) > above and cell not in self.refused())
        ]

    def refused(self) -> list[Cell]:
        """Cells that a gate cannot judge: most of one side's runs are flagged, or so few repeats can show no difference."""
        return [
            cell for cell in self.judged if cell.flagged > 0.5 or (cell.verdict == INCONCLUSIVE and self.repeats < self.needed)
        ]


def compare(
    a: Side,
    b: Side,
    value: str,
    *,
    by: str | None = None,
    across: Sequence[str] = (),
    repeats: int | None = None,
    margin: float = MARGIN,
) -> Comparison:
    """Compare column `value` of two sides. `by`: the parameter in which they differ on purpose, when both are of one data set.

    `across`: fields in which hosts, or parameters in which configurations, may differ. `margin`: in parts of A, the change that
    counts as no difference. Raises DataSetError when there is nothing to compare or hosts differ in another field.
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
    sides_of = [_sides(dict(zip(key, values, strict=True)), cells_a[values], cells_b[values], value, wanted) for values in common]
    cells = _judged(sides_of, paired, better(value), margin)
    if not cells:
        raise DataSetError(f"{a.name} and {b.name} have no configuration in common: {_nearest(cells_a, cells_b, key)}")
    shown = tuple(name for name in key if len({cell.values[name] for cell in cells}) > 1)
    return Comparison(
        a=a.name,
        b=b.name,
        value=value,
        repeats=wanted,
        paired=paired,
        margin=margin,
        axes=shown,
        cells=cells,
        only_a=len(cells_a) - len(cells),
        only_b=len(cells_b) - len(cells),
        needed=repeats_needed(sum(not cell.undecided for cell in cells), paired=paired),
    )


def better(value: str) -> str:
    """`higher`, `lower` or empty: which direction of a column of `runs` is better, by its unit: rates and times."""
    unit = next((column.unit for column in RUN_COLUMNS if column.name == value), "")
    if unit.endswith("/s"):
        return "higher"
    return "lower" if unit in _TIMES else ""


@dataclass(frozen=True)
class _Sides:
    """The values of a cell by repeat, of those repeats that count; `undecided` and `flagged` as in Cell."""

    values: Mapping[str, Any]
    a: Mapping[int, Any]
    b: Mapping[int, Any]
    undecided: str
    flagged: float


def _sides(values: Mapping[str, Any], a: Sequence[Row], b: Sequence[Row], value: str, wanted: int) -> _Sides:
    counted = [[run for run in side if run["repeat"] < wanted] for side in (a, b)]
    flagged = max((sum(run.get("trusted") is False for run in side) / len(side) for side in counted if side), default=0.0)
    side_a, side_b = ({run["repeat"]: shown(run, value) for run in side} for side in counted)
    return _Sides(values, side_a, side_b, _undecided(a, b, wanted) or _lacking(value, side_a, side_b), flagged)


def _judged(sides: Sequence[_Sides], paired: bool, direction: str, margin: float) -> tuple[Cell, ...]:
    """The cells with their verdicts, each corrected for all that are judged."""
    judged = [cell for cell in sides if not cell.undecided]
    corrected = iter(holm([_p(cell, paired) for cell in judged]))
    strictest = 1 - ALPHA / max(1, len(judged))
    cells = []
    for one in sides:
        ratio = _ratio(one, paired)
        cell = Cell(one.values, _middle(one.a.values()), _middle(one.b.values()), ratio, one.undecided, flagged=one.flagged)
        if ratio is not None and not one.undecided:
            p = next(corrected)
            wide = _ratio(one, paired, strictest)
            cell = replace(cell, p=p, verdict=verdict(ratio, p, direction, margin), least=least_difference(wide))
        cells.append(cell)
    return tuple(cells)


def _ratio(cell: _Sides, paired: bool, level: float = LEVEL) -> Estimate | None:
    if paired:
        return paired_ratio(((cell.a[repeat], cell.b[repeat]) for repeat in cell.a if repeat in cell.b), level)
    return unpaired_ratio(cell.a.values(), cell.b.values(), level)


def _p(cell: _Sides, paired: bool) -> float:
    if paired:
        return sign_test([cell.b[repeat] / cell.a[repeat] for repeat in cell.a])
    return rank_sum_test(list(cell.a.values()), list(cell.b.values()))


def _undecided(a: Sequence[Row], b: Sequence[Row], wanted: int) -> str:
    for name, side in (("A", a), ("B", b)):
        repeats = [run["repeat"] for run in side]
        if len(set(repeats)) < len(repeats):
            sweeps = sorted({run["sweep_id"] for run in side})
            return f"{name} was run again ({len(sweeps)} sweeps: {', '.join(sweeps)}); choose one with --where sweep_id=..."
        there = sum(repeat < wanted for repeat in repeats)
        if there < wanted:
            return f"{name} has {there} of {wanted} repeats that are ok"
    return "" if wanted > 1 else "one repeat has no spread"


def _lacking(value: str, a: Mapping[int, Any], b: Mapping[int, Any]) -> str:
    """Why there is no ratio of every repeat: the repeats that have one would not be a random choice."""
    for name, side in (("A", a), ("B", b)):
        missing = sum(one is None for one in side.values())
        if missing:
            why = f" (a 99.9th percentile takes {P999_FROM} recorded faults)" if "p999" in value else ""
            return f"{value} is null in {missing} of {len(side)} runs of {name}{why}"
    zeros = sum(one == 0 for one in a.values())
    return f"{value} is 0 in {zeros} of {len(a)} runs of A, so there is no ratio" if zeros else ""


def _middle(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(median(there)) if there else None


def _planned(sides: Sequence[Sequence[Row]]) -> int:
    """Repeats that the sweeps planned; where their configuration lacks it, those that there are."""
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
                f"to compare them all the same: --across {','.join((*across, field))}"
            )


def _nearest(cells_a: Mapping[tuple[Any, ...], Any], cells_b: Mapping[tuple[Any, ...], Any], key: Sequence[str]) -> str:
    for number, name in enumerate(key):
        in_a, in_b = ({values[number] for values in cells} for cells in (cells_a, cells_b))
        if not in_a & in_b:
            said_a, said_b = (", ".join(sorted(map(str, values))) for values in (in_a, in_b))
            return f"{name} is {said_a} in A and {said_b} in B (if that is what you compare: --across {name})"
    return "no combination of " + ", ".join(key) + " is in both"
