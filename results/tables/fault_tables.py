"""Faults by configuration and kind: their stages, exact percentiles and modes, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from results.derive.stages import MEANING, PARTS
from results.figures import cell, us
from results.statistics.design import Row, axes, checked, grouped
from results.statistics.modes import humps, in_words
from results.store.dataset import DataSet
from results.summaries.fault_digest import Digests, FaultDigest, digests
from results.summaries.noise import HEAD as NOISY
from results.summaries.noise import flagged, mark
from results.tables.console import print_notes, print_rows


@dataclass(frozen=True)
class FaultGroups:
    """Digests by values of `by` and kind of fault."""

    by: tuple[str, ...]
    digests: Mapping[tuple[tuple[Any, ...], str], FaultDigest]
    flagged: Mapping[tuple[Any, ...], str]
    """By values of `by`, the mark of those with runs that are flagged."""


def fault_groups(dataset: DataSet, runs: Sequence[Row], by: Sequence[str] | None = None) -> FaultGroups:
    """Read the faults of `runs`, grouped `by` (default: strategy, and whatever else was varied). Raises DataSetError for a
    parameter that is not there."""
    if by is None:
        by = ("strategy", *axes(runs, known=("strategy",)))
    for parameter in by:
        checked(runs, parameter)
    return grouped_digests(runs, digests(dataset, runs), by)


def grouped_digests(runs: Sequence[Row], of_runs: Any, by: Sequence[str]) -> FaultGroups:
    """Add the runs' digests up by the values of `by`."""
    number = {run["run_id"]: values for values, group in grouped(runs, by).items() for run in group}
    sums: dict[tuple[tuple[Any, ...], str], FaultDigest] = {}
    digest: Digests
    for run, digest in zip(runs, of_runs, strict=True):
        for kind, one in digest.items():
            sums.setdefault((number[run["run_id"]], kind), FaultDigest()).add(one)
    groups = grouped(runs, by)
    order = {values: place for place, values in enumerate(groups)}
    marks = {values: mark(flagged(group), len(group)) for values, group in groups.items() if flagged(group)}
    return FaultGroups(tuple(by), dict(sorted(sums.items(), key=lambda item: (order[item[0][0]], item[0][1]))), marks)


def print_stages(groups: FaultGroups, file: TextIO | None = None) -> None:
    """Mean parts, which sum to the mean latency; exact percentiles, medians over runs; and modes."""
    by = tuple(name.replace("_", " ") for name in groups.by)
    noisy = (NOISY,) if groups.flagged else ()
    heads = (*by, "kind", *noisy, "faults", *PARTS, "mean", "p50", "p99", "slowest 1%", "most of it")
    rows = []
    for (values, kind), digest in groups.digests.items():
        mean, slow = digest.mean_part_ns, digest.mean_slow_part_ns
        longest = max(range(len(PARTS)), key=lambda part: slow[part])
        most = f"{PARTS[longest]} {slow[longest] / sum(slow):.0%}" if sum(slow) else "-"
        rows.append(
            (
                *(cell(value) for value in values),
                *(kind, *(groups.flagged.get(values, "-") for _ in noisy)),
                *(str(digest.faults), *(us(ns) for ns in mean), us(sum(mean))),
                *(us(digest.exact_median(rank)) for rank in (500, 990)),
                *(us(sum(slow)) if digest.slow else "-", most),
            )
        )
    print_rows(heads, rows, file, keys=len(by) + 1)
    print_notes(_notes(groups), file)


def _notes(groups: FaultGroups) -> Iterator[str]:
    yield "times in us; means of the parts sum to the mean"
    yield "p50, p99: exact percentiles of each run's faults, then the median run"
    yield "slowest 1%: mean of those faults, and the part that took most of it"
    yield from (f"{part}: {MEANING[part]}" for part in PARTS)
    for (values, kind), digest in groups.digests.items():
        said = in_words(humps(digest.latency))
        if said:
            yield f"{' '.join(map(cell, values))} {kind}: {said}"
