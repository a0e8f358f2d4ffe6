"""Does the rate rise as vCPUs are added, and what does the fitted law predict for more?"""

from __future__ import annotations

from typing import Any

import numpy as np

from results.figures import cell
from results.report.drawing import Plot, Table, along, logarithmic, look, ring, sheet, style
from results.report.subject import MOST_PANELS, Subject, left_out
from results.statistics.intervals import median
from results.statistics.scalability import FEWEST_POINTS, PREDICTED, Law, fit
from results.tables.estimates import estimate

ALONG = "vcpus"


def plots(subject: Subject) -> list[Plot]:
    """One plot, or none when no panel has two numbers of vCPUs."""
    every = [panel for panel in subject.panels(ALONG) if len({run[ALONG] for run in panel.runs}) > 1]
    shown = every[:MOST_PANELS]
    if not shown:
        return []
    laws: list[tuple[str, str, Law | None]] = []
    drawn = sheet("scaling", len(shown), height=3.4)
    for axes, panel in zip(drawn.panels, shown, strict=True):
        measured = sorted({run[ALONG] for run in panel.runs})
        with style():
            for name, runs in subject.series(panel.runs).items():
                law = _draw(drawn, axes, subject, name, runs)
                laws.append((panel.title, subject.marked(name, runs), law))
            if any(law for title, _, law in laws if title == panel.title):
                axes.axvspan(measured[-1] * 1.2, PREDICTED[-1] * 1.3, color="#f2f2f2", zorder=0)
                axes.text(0.99, 0.02, "prediction", transform=axes.transAxes, ha="right", color="#555555", style="italic")
                along(axes, [*measured, *(n for n in PREDICTED if n > measured[-1])])
            else:
                along(axes, measured)
            logarithmic(axes)
            axes.set(title=panel.title, xlabel="vCPUs", ylabel="thousand pages/s")
    return [
        Plot(
            name="scaling",
            title="Scaling: pages a second by number of vCPUs",
            caption="Points: medians over repeats with their intervals. Lines: the Universal Scalability Law, the median of its "
            "fits to each repeat; dashed, in the grey, it is a prediction and was not measured; the band is its exact interval."
            + left_out(every),
            svg=drawn.svg(),
            series=drawn.series,
            table=_table(laws),
            notes=_notes(subject, laws),
        )
    ]


def _draw(drawn: Any, axes: Any, subject: Subject, name: str, runs: Any) -> Law | None:
    rates: dict[float, list[float]] = {}
    for run in runs:
        if run["pages_per_s"] is not None:
            rates.setdefault(run[ALONG], []).append(run["pages_per_s"] / 1e3)
    points = {n: median(values) for n, values in sorted(rates.items())}
    looks = look(subject.names, name)
    colour = looks["color"]
    at = [n for n, point in points.items() if point]
    middle = np.array([point.value for point in points.values() if point])
    low = np.array([point.value if point.low is None else point.low for point in points.values() if point])
    high = np.array([point.value if point.high is None else point.high for point in points.values() if point])
    law = fit(rates)
    axes.errorbar(at, middle, yerr=(middle - low, high - middle), fmt="none" if law else "-", color=colour, capsize=2)
    [marks] = axes.plot(at, middle, linestyle="none", **looks)
    marks.set_gid(drawn.series_id())
    drawn.legend.setdefault(name, marks)
    noisy = {run[ALONG] for run in runs if run["trusted"] is False}
    ring(drawn, axes, [(n, point.value) for n, point in points.items() if point and n in noisy])
    if law:
        inside = np.geomspace(min(at), law.largest, 60)
        axes.plot(inside, law.rate(inside), color=colour, linewidth=1.2)
        beyond = np.geomspace(law.largest, PREDICTED[-1], 60)
        axes.plot(beyond, law.rate(beyond), color=colour, linewidth=1, linestyle=(0, (4, 3)))
        lower, upper = law.band(beyond)
        axes.fill_between(beyond, lower, upper, color=colour, alpha=0.10, linewidth=0)
        for n, prediction in law.predictions.items():
            axes.plot([n], [prediction.value], linestyle="none", fillstyle="none", **looks)
    return law


def _table(laws: list[tuple[str, str, Law | None]]) -> Table | None:
    rows = [
        (
            *(panel, name, *(estimate(term, 3) for term in (law.one, law.contention, law.coherence))),
            _peak(law),
            *(estimate(law.predictions.get(n), 3) for n in PREDICTED),
            f"{law.error:.0%}",
        )
        for panel, name, law in laws
        if law
    ]
    heads = (
        *("configuration", "strategy", "one vCPU, kpages/s", "contention", "coherence", "falls from, vCPUs"),
        *(f"PREDICTED at {n}, kpages/s" for n in PREDICTED),
        "largest misfit",
    )
    return Table(heads, rows) if rows else None


def _peak(law: Law) -> str:
    """The number of vCPUs from which the rate falls, as far as the law is asked."""
    return f"not up to {PREDICTED[-1]}" if law.peak is None or law.peak > PREDICTED[-1] else cell(max(1, round(law.peak)))


def _notes(subject: Subject, laws: list[tuple[str, str, Law | None]]) -> list[str]:
    notes = []
    if any(law is None for *_, law in laws):
        notes.append(f"The law is fitted where at least {FEWEST_POINTS} numbers of vCPUs were measured.")
    crowded = sorted({run["cores"] for run in subject.runs if run["cores"] and run["vcpus"] and run["vcpus"] > run["cores"]})
    if crowded and any(law for *_, law in laws):
        notes.append(
            f"Some vCPUs shared {' or '.join(map(str, crowded))} CPUs: the law then describes the sharing of CPUs, too, and its "
            "prediction is for so many CPUs and not for a machine with more."
        )
    poor = [f"{name} ({panel})" if panel else name for panel, name, law in laws if law and law.error > 0.25]
    if poor:
        notes.append(f"The law misses a median by more than a quarter, so do not rely on its terms: {'; '.join(poor)}.")
    return notes
