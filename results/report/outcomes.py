"""How faults ended, by the state their page was prepared in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from results.report.drawing import COLOURS, HATCHES, Plot, Table, sheet, style
from results.report.subject import MOST_PANELS, Panel, Subject, left_out
from results.summaries.fault_digest import FaultDigest

Digests = Mapping[tuple[str, str], FaultDigest]

_PALE = (*COLOURS[6:7], *COLOURS[5:6], *COLOURS[3:5], "#B3B3B3", *COLOURS[1:3], COLOURS[0])


def plots(subject: Subject, panels: Sequence[tuple[Panel, Digests]]) -> list[Plot]:
    """One plot: a panel for each configuration, a bar for each strategy and kind."""
    shown = [(panel, digests) for panel, digests in panels[:MOST_PANELS] if digests]
    if not shown:
        return []
    outcomes = sorted({outcome for _, digests in shown for one in digests.values() for outcome in one.outcomes})
    drawn = sheet("outcomes", len(shown), height=1.0 + 0.26 * max(len(digests) for _, digests in shown))
    for axes, (panel, digests) in zip(drawn.panels, shown, strict=True):
        series = subject.series(panel.runs)
        names = [f"{subject.marked(name, series.get(name, ()))}, {kind}" for name, kind in digests]
        with style():
            left = [0.0] * len(names)
            for number, outcome in enumerate(outcomes):
                lengths = [100 * one.outcomes[outcome] / one.faults if one.faults else 0.0 for one in digests.values()]
                look: Any = {"color": _PALE[number % len(_PALE)], "hatch": HATCHES[number % len(HATCHES)]}
                group = axes.barh(names, lengths, left=left, edgecolor="#333333", linewidth=0.4, **look)
                if any(lengths):
                    next(patch for patch, length in zip(group, lengths, strict=True) if length).set_gid(drawn.series_id())
                drawn.legend.setdefault(outcome.replace("_", " "), group)
                left = [begin + length for begin, length in zip(left, lengths, strict=True)]
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
            axes.set_xlim(0, 100)
            axes.set(title=panel.title, xlabel="% of the faults on pages of that kind")
    rows = [
        (
            *(panel.title, subject.marked(name, subject.series(panel.runs).get(name, ())), kind, str(one.faults)),
            *(str(one.outcomes[outcome]) for outcome in outcomes),
        )
        for panel, digests in shown
        for (name, kind), one in digests.items()
    ]
    return [
        Plot(
            name="outcomes",
            title="Fault mix: how faults ended",
            caption="By the state their page was prepared in; the colours and hatches are outcomes."
            + subject.left_out_between()
            + left_out([p for p, _ in panels]),
            svg=drawn.svg(),
            series=drawn.series,
            table=Table(("configuration", "strategy", "kind", "faults", *(one.replace("_", " ") for one in outcomes)), rows),
        )
    ]
