"""The strategies x vCPUs table of a sweep, computed from its `runs`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from results.schema import RUN_COLUMNS
from results.store import DataSet

BASELINE = "uffd_wait"
"""The strategy every other one is compared with."""

SHOWN_AXES = ("fault_mix", "memory_type", "cores", "vcpus")
"""Axes the table always shows, outermost first; others only where runs alike in these differ in them."""

_NEVER_COMPARED = ("sweep_id", "host", "kernel")
"""Runs that differ in one of these are kept apart even where they share nothing else."""

_AXES = tuple(column.name for column in RUN_COLUMNS if column.axis)
_VALUES = ("pages_per_s", "pages_per_s_net", "latency_p50_ns", "latency_p99_ns", "latency_p999_ns")
_COLUMNS = ("run_id", "repeat", "status", "reason", "started_at", *_AXES, *_VALUES)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class SummaryRow:
    """One configuration over its repeats. Rates in pages/s, latencies in ns: medians of repeats; None: not measured.

    `axes`: value by axis, those of `Summary.axes`. `ratio` and `ratio_net`: median over repeats of this strategy's rate
    divided by that of `uffd_wait` in the same repeat.
    """

    strategy: str
    axes: Mapping[str, Any]
    repeats: int
    pages_per_s: float | None
    pages_per_s_lowest: float | None
    pages_per_s_highest: float | None
    ratio: float | None
    pages_per_s_net: float | None
    ratio_net: float | None
    latency_p50_ns: float | None
    latency_p99_ns: float | None
    latency_p999_ns: float | None


@dataclass(frozen=True)
class NotCounted:
    """A run that is in no row, and why."""

    run_id: str
    strategy: str
    status: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """`axes`: the columns that tell the rows apart besides the strategy, outermost first."""

    axes: tuple[str, ...]
    rows: tuple[SummaryRow, ...]
    not_counted: tuple[NotCounted, ...]


def summary(dataset: DataSet, sweep_id: str | None = None) -> Summary:
    """Summarise one sweep, or all of them. Raises DataSetError for a sweep that is not there."""
    return summarise(dataset.read("runs", _COLUMNS, sweep_id).to_pylist())


def summarise(runs: Sequence[Row]) -> Summary:
    """Summarise rows of `runs` (mappings by column name): only runs that are ok count, the others are listed."""
    counted = [run for run in runs if run["status"] == "ok"]
    differing = varying_within(counted, ("strategy", *SHOWN_AXES))
    apart = [axis for axis in _NEVER_COMPARED if len({run[axis] for run in counted}) > 1]
    axes = (*apart, *(axis for axis in differing if axis not in apart), *SHOWN_AXES)
    groups = list(grouped(counted, ("strategy", *axes)).values())
    rows = [_row(group, axes, _baseline_of(group[0], groups, axes)) for group in groups]
    rows.sort(key=lambda row: ([_sortable(row.axes[axis]) for axis in axes], row.strategy != BASELINE, row.strategy))
    not_counted = (
        NotCounted(run["run_id"], run["strategy"] or "", run["status"], run["reason"] or "")
        for run in runs
        if run["status"] != "ok"
    )
    return Summary(axes, tuple(rows), tuple(not_counted))


def varying_within(runs: Sequence[Row], columns: Sequence[str]) -> tuple[str, ...]:
    """The axes in which runs with the same values in `columns` differ, in the order of the schema."""
    groups = grouped(runs, columns).values()
    return tuple(axis for axis in _AXES if any(len({run[axis] for run in group}) > 1 for group in groups))


def grouped(runs: Iterable[Row], columns: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """The runs by their values in `columns`."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for run in runs:
        groups[tuple(run[column] for column in columns)].append(run)
    return groups


def median_or_none(values: Iterable[float | None]) -> float | None:
    """The median of the values that are there; None if none is."""
    there = [value for value in values if value is not None]
    return median(there) if there else None


def _baseline_of(run: Row, groups: Iterable[Sequence[Row]], axes: Sequence[str]) -> Mapping[int, Row]:
    """`uffd_wait`'s run by repeat, under the same configuration.

    Strategies have options of their own, so the same options are asked for only where `uffd_wait` ran with several.
    """
    compared = [axis for axis in axes if axis != "strategy_options"]
    alike = [
        group for group in groups if group[0]["strategy"] == BASELINE and all(group[0][axis] == run[axis] for axis in compared)
    ]
    if len(alike) > 1:
        alike = [group for group in alike if group[0]["strategy_options"] == run["strategy_options"]]
    return {base["repeat"]: base for group in alike for base in group}


def _row(group: Sequence[Row], axes: Sequence[str], baseline: Mapping[int, Row]) -> SummaryRow:
    rates = [run["pages_per_s"] for run in group if run["pages_per_s"] is not None]
    return SummaryRow(
        strategy=group[0]["strategy"] or "",
        axes={axis: group[0][axis] for axis in axes},
        repeats=len(group),
        pages_per_s=median_or_none(rates),
        pages_per_s_lowest=min(rates, default=None),
        pages_per_s_highest=max(rates, default=None),
        ratio=_paired_ratio(group, baseline, "pages_per_s"),
        pages_per_s_net=median_or_none(run["pages_per_s_net"] for run in group),
        ratio_net=_paired_ratio(group, baseline, "pages_per_s_net"),
        latency_p50_ns=median_or_none(run["latency_p50_ns"] for run in group),
        latency_p99_ns=median_or_none(run["latency_p99_ns"] for run in group),
        latency_p999_ns=median_or_none(run["latency_p999_ns"] for run in group),
    )


def _paired_ratio(group: Sequence[Row], baseline: Mapping[int, Row], value: str) -> float | None:
    pairs = [(run[value], baseline[run["repeat"]][value]) for run in group if run["repeat"] in baseline]
    return median_or_none(mine / base for mine, base in pairs if mine is not None and base)


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)
