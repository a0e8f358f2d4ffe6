"""Distribution functions of latencies, from the touch, and in the open loop from when it should have been, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from results.derive.histogram import edges
from results.report.drawing import Plot, Sheet, dashes, sheet, style
from results.report.subject import MOST_PANELS, Panel, Subject, left_out
from results.statistics.modes import humps, in_words
from results.summaries.fault_digest import FaultDigest

FEWEST = 50
"""Faults of which a distribution is drawn."""

_TICKS = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)

Digests = Mapping[tuple[str, str], FaultDigest]
"""By series and kind, in one panel."""


def plots(subject: Subject, panels: Sequence[tuple[Panel, Digests]]) -> list[Plot]:
    """One plot: a panel for each configuration and kind of fault, beside it one of open-loop latencies where there are any."""
    every: list[tuple[str, str, dict[str, npt.NDArray[np.int64]]]] = []
    notes = []
    for panel, digests in panels:
        series = subject.series(panel.runs)
        for kind in dict.fromkeys(kind for _, kind in digests):
            mine = {name: digest for (name, its), digest in digests.items() if its == kind}
            heading = subject.marked(f"{panel.title}: {kind} faults".removeprefix(": "), panel.runs)
            for counts, since in (("latency", "from the touch"), ("open_latency", "from when it was intended")):
                drawn = {name: getattr(one, counts) for name, one in mine.items() if getattr(one, counts).sum() >= FEWEST}
                if drawn:
                    every.append((heading, since, drawn))
            for name, one in mine.items():
                said = in_words(humps(one.latency))
                if said:
                    notes.append(f"{subject.marked(name, series.get(name, ()))}, {heading}: {said}.")
    shown = every[:MOST_PANELS]
    if not shown:
        return []
    drawn_on = sheet("latency", len(shown))
    for axes, (heading, since, distributions) in zip(drawn_on.panels, shown, strict=True):
        with style():
            _draw(drawn_on, axes, subject, distributions)
            axes.set(title=heading, xlabel=f"us, {since}", ylabel="of faults are faster")
    return [
        Plot(
            name="latency",
            title="Latency: distribution functions",
            caption="Each curve: the share of faults with at most that latency, all repeats pooled, on a scale that shows "
            "middle and tail alike. A step is a mode. Open-loop latencies, where there are any, begin "
            "when the touch was intended." + subject.left_out_between() + left_out([one for one, _ in panels]),
            svg=drawn_on.svg(),
            series=drawn_on.series,
            notes=notes,
        )
    ]


def _draw(drawn: Sheet, axes: Any, subject: Subject, distributions: Mapping[str, npt.NDArray[np.int64]]) -> None:
    upper = edges()[1:] / 1e3
    for name, counts in distributions.items():
        below = np.cumsum(counts) / counts.sum()
        there = (counts > 0) & (below < 1)
        if not there.any():
            there = counts > 0
            below = np.minimum(below, 1 - 0.5 / counts.sum())
        [line] = axes.plot(upper[there], below[there], **dashes(subject.names, name))
        line.set_gid(drawn.series_id())
        drawn.legend.setdefault(name, line)
    axes.set_xscale("log")
    axes.set_yscale("logit")
    axes.set_yticks(_TICKS, [f"{100 * share:g}%" for share in _TICKS])
    axes.set_yticks([], minor=True)
    axes.set_ylim(0.005, 0.99997)
