"""What the rates say, in a sentence for each configuration shown."""

from __future__ import annotations

from collections.abc import Iterator

from results.report.crossovers import ratios_between
from results.report.subject import Subject
from results.statistics.intervals import Estimate

MOST = 8


def in_short(subject: Subject) -> Iterator[str]:
    """The fastest and the slowest strategy against the baseline, as far as intervals can tell."""
    for panel in subject.ends()[:MOST]:
        series = subject.series(panel.runs)
        base = next((runs for name, runs in series.items() if name.split()[0] == subject.baseline), None)
        if base is None:
            continue
        others = {name: ratios_between(runs, base, "page_bytes") for name, runs in series.items() if runs is not base}
        sure = {name: ratio for name, found in others.items() for ratio in found.values() if not ratio.includes(1.0)}
        where = f"{panel.title}: " if panel.title else ""
        faster = {name: ratio for name, ratio in sure.items() if ratio.value > 1}
        slower = {name: ratio for name, ratio in sure.items() if ratio.value < 1}
        said = []
        if faster:
            best = max(faster, key=lambda name: faster[name].value)
            said.append(f"{best} is {_times(faster[best])} as fast as {subject.baseline}")
        if slower:
            worst = min(slower, key=lambda name: slower[name].value)
            said.append(f"{worst} is {_times(slower[worst])} as fast" + ("" if faster else f" as {subject.baseline}"))
        equal = [name for name, found in others.items() if found and name not in sure]
        if equal:
            said.append(f"{', '.join(equal)} cannot be told from it" if said else f"nothing can be told from {subject.baseline}")
        if said:
            yield where + "; ".join(said) + "."


def _times(ratio: Estimate) -> str:
    interval = "" if ratio.low is None else f" ({ratio.low:.3g}..{ratio.high:.3g})"
    return f"{ratio.value:.3g} times{interval}"
