"""The section on locality: how the working set of each configuration grows, and the table of `loadgen-report locality`."""

from __future__ import annotations

from collections.abc import Sequence

from results.report.drawing import Plot, Sheet, Table, dashes, sheet, style
from results.report.subject import Subject
from results.statistics.design import Row
from results.store.dataset import DataSet
from results.summaries.locality import Locality, comparable, localities
from results.summaries.prefetch import prefetched
from results.tables.locality_table import locality_notes, locality_table, prefetch_notes

MOST_RUNS = 16
"""Runs that are looked at, each of another configuration, or all repeats where there are few."""


def plots(dataset: DataSet, subject: Subject) -> list[Plot]:
    """One plot, or none where no run kept the order of its faults."""
    kept = [run for run in subject.runs if comparable(run)]
    runs = _spread(kept)
    found, overlap = localities(dataset, runs)
    drawn = [one for one in found if one.curve]
    if not drawn:
        return []
    names = {run["run_id"]: _name(subject, run) for run in runs}
    table = locality_table(found, names)
    left_out = f" {len(kept) - len(runs)} more runs are left out; --where narrows the report." if len(kept) > len(runs) else ""
    on = sheet("locality", 1, columns=1, width=6.0, height=3.2)
    _draw(on, drawn)
    return [
        Plot(
            name="locality",
            title="Locality: what a prefetcher can make use of",
            caption="Each line: the share of its pages that a run had touched by when, in the order of its faults." + left_out,
            svg=on.svg(),
            series=on.series,
            table=Table(table.heads, table.rows),
            notes=[
                *prefetch_notes(prefetched(dataset, run) for run in runs),
                *locality_notes(overlap, len(subject.runs) - len(kept)),
            ],
        )
    ]


def _spread(runs: Sequence[Row]) -> list[Row]:
    """At most MOST_RUNS of them: those of the first repeat first."""
    return sorted(runs, key=lambda run: run["repeat"] or 0)[:MOST_RUNS]


def _name(subject: Subject, run: Row) -> str:
    vcpus = f" {run['vcpus']} vCPUs" if run["vcpus"] is not None else ""
    return f"{next(iter(subject.series([run])))}{vcpus}"


def _draw(on: Sheet, found: Sequence[Locality]) -> None:
    runs = [one.run_id for one in found]
    with style():
        for one in found:
            shares = [(0.0, 0.0), *one.curve]
            [line] = on.panels[0].plot(*zip(*shares, strict=True), **dashes(runs, one.run_id))
            line.set_gid(on.series_id())
        on.panels[0].set(xlabel="of the run's time", ylabel="of its pages are touched", xlim=(0, 1.02), ylim=(0, 1.02))
