"""The section on locality: how the working set of each configuration grows, and the table of `loadgen-report locality`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.report.drawing import Plot, Sheet, Table, dashes, sheet, style
from results.report.subject import MOST_PANELS, Panel, Subject, left_out
from results.store.dataset import DataSet
from results.summaries.locality import Locality, comparable, localities
from results.summaries.prefetch import prefetched
from results.tables.locality_table import locality_notes, locality_table, prefetch_notes

MOST_RUNS = 24
"""Runs whose faults are read: of every configuration that is drawn the first repeat, then further ones."""


def plots(dataset: DataSet, subject: Subject) -> list[Plot]:
    """One plot, a panel a configuration, or none where no run kept the order of its faults."""
    ends = subject.ends()
    panels = ends[:MOST_PANELS]
    kept = [run for panel in panels for run in panel.runs if comparable(run)]
    runs = sorted(kept, key=lambda run: run["repeat"] or 0)[:MOST_RUNS]
    found, overlap = localities(dataset, runs)
    curves = {one.run_id: one for one in found if one.curve}
    shown = [panel for panel in panels if any(run["run_id"] in curves for run in panel.runs)]
    if not shown:
        return []
    table = locality_table(found, _named(subject, panels))
    fewer = (
        f" {len(kept) - len(runs)} more runs of them are left out; --where narrows the report." if len(kept) > len(runs) else ""
    )
    on = sheet("locality", len(shown))
    for axes, panel in zip(on.panels, shown, strict=True):
        _draw(on, axes, subject, panel, curves)
    return [
        Plot(
            name="locality",
            title="Locality: what a prefetcher can make use of",
            caption="Each line: the share of its pages that a run had touched by when, in the order of its faults."
            + fewer
            + subject.left_out_between()
            + left_out(ends),
            svg=on.svg(),
            series=on.series,
            table=Table(table.heads, table.rows),
            notes=[
                *prefetch_notes(prefetched(dataset, run) for run in runs),
                *locality_notes(overlap, sum(len(panel.runs) for panel in panels) - len(kept)),
            ],
        )
    ]


def _named(subject: Subject, panels: Sequence[Panel]) -> dict[str, str]:
    return {
        run["run_id"]: f"{subject.marked(name, [run])}, {panel.title}"
        for panel in panels
        for name, runs in subject.series(panel.runs).items()
        for run in runs
    }


def _draw(on: Sheet, axes: Any, subject: Subject, panel: Panel, curves: Mapping[str, Locality]) -> None:
    with style():
        for name, runs in subject.series(panel.runs).items():
            for one in (curves[run["run_id"]] for run in runs if run["run_id"] in curves):
                shares = [(0.0, 0.0), *one.curve]
                [line] = axes.plot(*zip(*shares, strict=True), **dashes(subject.names, name))
                line.set_gid(on.series_id())
                on.legend.setdefault(name, line)
        axes.set(
            title=subject.marked(panel.title, panel.runs),
            xlabel="share of the run's time",
            ylabel="share of its pages",
            xlim=(0, 1.02),
            ylim=(0, 1.02),
        )
