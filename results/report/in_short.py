"""The rates in a sentence for each configuration shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from results.report.crossovers import ratios_between
from results.report.subject import Subject
from results.statistics.intervals import LEVEL, Estimate, repeats_for
from results.statistics.verdicts import equivalent, figures

MOST = 8


def in_short(subject: Subject) -> Iterator[str]:
    """The fastest and the slowest strategy against the baseline, as far as intervals allow, and what those intervals are."""
    shown: list[Estimate] = []
    for panel in subject.ends()[:MOST]:
        series = subject.series(panel.runs)
        base = next((runs for name, runs in series.items() if name.split()[0] == subject.baseline), None)
        if base is None:
            continue
        others = {
            subject.marked(name, [*runs, *base]): ratios_between(runs, base, "page_bytes")
            for name, runs in series.items()
            if runs is not base
        }
        found = {name: ratio for name, ratios in others.items() for ratio in ratios.values()}
        shown += found.values()
        said = _sentence(found, str(subject.baseline))
        if said:
            yield f"{panel.title}: {said}.".removeprefix(": ")
    yield from _caveats(subject, shown)


def _sentence(ratios: Mapping[str, Estimate], baseline: str) -> str:
    faster = {name: ratio for name, ratio in ratios.items() if not ratio.includes(1.0) and ratio.value > 1}
    slower = {name: ratio for name, ratio in ratios.items() if not ratio.includes(1.0) and ratio.value < 1}
    said = []
    if faster:
        best = max(faster, key=lambda name: faster[name].value)
        said.append(f"{best} is {_times(faster[best])} as fast as {baseline}")
    if slower:
        worst = min(slower, key=lambda name: slower[name].value)
        said.append(f"{worst} is {_times(slower[worst])} as fast" + ("" if faster else f" as {baseline}"))
    same = [name for name, ratio in ratios.items() if name not in faster and name not in slower and equivalent(ratio)]
    unsure = [name for name in ratios if name not in faster and name not in slower and name not in same]
    said += [f"no difference: {', '.join(same)}"] if same else []
    said += [f"inconclusive: {', '.join(unsure)}"] if unsure else []
    return "; ".join(said)


def _caveats(subject: Subject, shown: Sequence[Estimate]) -> Iterator[str]:
    """What the sentences above depend on."""
    least = min(shown, key=lambda ratio: ratio.coverage, default=None)
    if least is not None and least.coverage < LEVEL:
        repeats = f"{least.n} repeat{'s' * (least.n != 1)}"
        yield (
            f"With {repeats} these intervals have {least.coverage:.0%} coverage: a difference may be chance. "
            f"{repeats_for(LEVEL)} repeats or more give at least {LEVEL:.0%}."
        )
    if subject.left_out_between():
        yield subject.left_out_between().strip()


def _times(ratio: Estimate) -> str:
    return f"{figures(ratio).replace(' ', ' times ', 1)}" if ratio.low is not None else f"{figures(ratio)} times"
