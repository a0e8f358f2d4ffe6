"""The strategies x vCPUs table of a sweep, computed from its `runs`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.statistics.design import (
    APART,
    BASELINE,
    Row,
    baseline_of,
    described,
    differing,
    grouped,
    in_order,
    of_the_strategy,
    value_of,
)
from results.statistics.intervals import Estimate, median, paired_ratio, two_groups
from results.statistics.percentiles import shown_of
from results.store.dataset import DataSet
from results.summaries.net import Bracket, bracket, bracket_to, ends
from results.summaries.noise import flagged, noise

SHOWN_AXES = ("fault_mix", "memory_type", "cores", "vcpus")
"""Axes the table always shows, outermost first; others only where runs alike in these differ in them."""

LATENCIES = tuple(f"latency_{which}_ns" for which in ("p50", "p99", "p999"))
OPEN_LATENCIES = tuple(f"latency_open_{which}_ns" for which in ("p50", "p99", "p999"))

SUMMARISED = (
    *("pages_per_s", "cpu_ns_per_page", "prefetched_pages_per_s", *LATENCIES, *OPEN_LATENCIES),
    *(end for column in ("pages_per_s_net", "cpu_ns_per_page_net") for end in ends(column)),
)
"""Columns of `runs` that a summary needs besides those that describe a run."""


@dataclass(frozen=True)
class SummaryRow:
    """One configuration over its repeats. Rates in pages/s, latencies in ns by column of `runs`: medians of repeats; None: not
    measured.

    `axes`: value by axis, those of `Summary.axes`. `ratio` and `ratio_net`: this strategy's rate divided by that of the
    baseline in the same repeat. `flagged`, `baseline_flagged`: runs flagged as noisy, and those of the baseline in the same
    repeats. `groups`: the two rates at which the repeats cluster, if they do.
    """

    strategy: str
    axes: Mapping[str, Any]
    repeats: int
    flagged: int
    baseline_flagged: int
    pages_per_s: Estimate | None
    ratio: Estimate | None
    pages_per_s_net: Bracket | None
    ratio_net: Bracket | None
    cpu_ns_per_page: Estimate | None
    cpu_ns_per_page_net: Bracket | None
    latencies: Mapping[str, Estimate | None]
    prefetched_pages_per_s: float | None
    groups: tuple[float, float] | None


@dataclass(frozen=True)
class NotCounted:
    """A run that is in no row, and why."""

    run_id: str
    strategy: str
    status: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """`axes`: the parameters in which rows differ besides the strategy, outermost first. `baseline`: the strategy that the
    others are compared with. `noise`: lines about flagged runs and runs not judged."""

    axes: tuple[str, ...]
    baseline: str
    rows: tuple[SummaryRow, ...]
    not_counted: tuple[NotCounted, ...]
    noise: tuple[str, ...]


def summary(dataset: DataSet, sweep_id: str | None = None) -> Summary:
    """Summarise one sweep, or all of them. Raises DataSetError for a sweep that is not there."""
    return summarise(dataset.runs(sweep_id, described(*SUMMARISED)))


def summarise(runs: Sequence[Row]) -> Summary:
    """Summarise rows of `runs` (mappings by column name): only runs that are ok count, the others are listed."""
    counted = [run for run in runs if run["status"] == "ok"]
    further = differing(counted, ("strategy", *SHOWN_AXES))
    apart = [axis for axis in APART if len({run[axis] for run in counted}) > 1]
    axes = (*apart, *(axis for axis in further if axis not in apart), *SHOWN_AXES)
    groups = list(grouped(counted, ("strategy", *axes)).values())
    baseline = baseline_of(run["strategy"] for run in counted) or BASELINE
    rows = [_row(group, axes, baseline_runs(group[0], groups, axes, baseline)) for group in groups]
    rows.sort(key=lambda row: (in_order(row.axes[axis] for axis in axes), row.strategy != baseline, row.strategy))
    not_counted = (
        NotCounted(run["run_id"], run["strategy"] or "", run["status"], run["reason"] or "")
        for run in runs
        if run["status"] != "ok"
    )
    return Summary(axes, baseline, tuple(rows), tuple(not_counted), tuple(noise(counted)))


def baseline_runs(run: Row, groups: Iterable[Sequence[Row]], axes: Sequence[str], baseline: str) -> Mapping[int, Row]:
    """The baseline strategy's run by repeat, under the same configuration as `run`.

    Strategies have options of their own, so the same options are asked for only where the baseline ran with several.
    """
    own = [axis for axis in axes if of_the_strategy(axis)]
    compared = [axis for axis in axes if axis not in own]
    alike = [
        group
        for group in groups
        if group[0]["strategy"] == baseline and all(value_of(group[0], axis) == value_of(run, axis) for axis in compared)
    ]
    if len(alike) > 1:
        alike = [group for group in alike if all(value_of(group[0], axis) == value_of(run, axis) for axis in own)]
    return {base["repeat"]: base for base in alike[0]} if len(alike) == 1 else {}


def median_or_none(values: Iterable[float | None]) -> float | None:
    """The median of the values that are there, alone; None if none is."""
    found = median(values)
    return None if found is None else found.value


def ratio_to(baseline: Mapping[int, Row], group: Sequence[Row], value: str) -> Estimate | None:
    """`value` of the runs of `group` divided by the baseline's of the same repeat."""
    return paired_ratio((baseline[run["repeat"]][value], run[value]) for run in group if run["repeat"] in baseline)


def _row(group: Sequence[Row], axes: Sequence[str], baseline: Mapping[int, Row]) -> SummaryRow:
    return SummaryRow(
        strategy=group[0]["strategy"] or "",
        axes={axis: value_of(group[0], axis) for axis in axes},
        repeats=len(group),
        flagged=flagged(group),
        baseline_flagged=flagged(baseline.values()),
        pages_per_s=median(run["pages_per_s"] for run in group),
        ratio=ratio_to(baseline, group, "pages_per_s"),
        pages_per_s_net=bracket(group, "pages_per_s_net"),
        ratio_net=bracket_to(baseline, group, "pages_per_s_net"),
        cpu_ns_per_page=median(run["cpu_ns_per_page"] for run in group),
        cpu_ns_per_page_net=bracket(group, "cpu_ns_per_page_net"),
        latencies={name: median(shown_of(group, name)) for name in (*LATENCIES, *OPEN_LATENCIES)},
        prefetched_pages_per_s=median_or_none(run["prefetched_pages_per_s"] for run in group),
        groups=two_groups([run["pages_per_s"] for run in group]),
    )
