"""Speed-ups over the baseline along whatever was varied in numbers, and where one side overtakes the other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from results.figures import cell
from results.report.drawing import Plot, Sheet, Table, along, logarithmic, look, ring, sheet, style
from results.report.subject import MOST_PANELS, Panel, Subject, left_out, no_quantity
from results.statistics.crossover import crossings
from results.statistics.design import Row, grouped, value_of
from results.statistics.intervals import Estimate, paired_ratio
from results.statistics.verdicts import INCONCLUSIVE, NO_DIFFERENCE, equivalent, figures
from results.summaries.noise import flagged

VALUE = "pages_per_s"

Ratios = dict[float, Estimate]


def plots(subject: Subject) -> list[Plot]:
    """A plot for each parameter that is a number and was varied, where there is something to divide by."""
    found = (plot_along(subject, parameter, number) for number, parameter in enumerate(subject.numbers()))
    return [plot for plot in found if plot]


def plot_along(subject: Subject, parameter: str, number: int) -> Plot | None:
    """Speed-ups along one parameter; None where no two series have it in common."""
    every = [
        (panel, ratios) for panel in subject.panels(parameter) for ratios in [ratios_of(subject, panel, parameter)] if ratios
    ]
    shown = every[:MOST_PANELS]
    if not shown:
        return None
    said = parameter.replace("_", " ")
    drawn = sheet(f"crossover{number}", len(shown))
    rows: list[tuple[str, ...]] = []
    for axes, (panel, by_name) in zip(drawn.panels, shown, strict=True):
        with style():
            for name, ratios in by_name.items():
                _draw(drawn, axes, look(subject.names, name), name, ratios)
                ring(drawn, axes, [(at, ratios[at].value) for at in ratios if flagged(_of(subject, panel, parameter, name, at))])
            axes.axhline(1, color="#000000", linewidth=1)
            logarithmic(axes)
            along(axes, [value for ratios in by_name.values() for value in ratios])
            axes.set(title=panel.title, xlabel=said, ylabel=f"times {subject.baseline}")
        rows += _rows(subject, panel, by_name, parameter)
    return Plot(
        name=f"crossover{number}",
        title=f"Crossover along {said}",
        caption=f"Pages a second divided by those of {subject.baseline} in the same repeat: median and interval. Above the line "
        "the strategy is faster, below it slower; an interval that holds the line decides nothing. A grey band: between its ends "
        "one overtakes the other." + _not_on_the_axis(subject, parameter) + left_out([panel for panel, _ in every]),
        svg=drawn.svg(),
        series=drawn.series,
        table=Table((said, "configuration", "strategy", "against", "speed-up", "verdict"), rows),
    )


def _not_on_the_axis(subject: Subject, parameter: str) -> str:
    there = {value_of(run, parameter) for run in subject.runs}
    off = [(value, what) for value, what in no_quantity(parameter).items() if value in there]
    return "".join(f" Runs with {parameter}={value} ({what}) are not on the axis." for value, what in off)


def ratios_of(subject: Subject, panel: Panel, parameter: str) -> dict[str, Ratios]:
    """Speed-ups over the baseline by series and value of the parameter."""
    series = subject.series(panel.runs, parameter)
    base = next((runs for name, runs in series.items() if name.split()[0] == subject.baseline), [])
    others = {name: runs for name, runs in series.items() if name.split()[0] != subject.baseline}
    found = {name: ratios_between(runs, base, parameter) for name, runs in others.items()}
    return {name: ratios for name, ratios in found.items() if ratios}


def ratios_between(runs: Sequence[Row], base: Sequence[Row], parameter: str) -> Ratios:
    """Speed-up of runs over others of the same sweep and repeat, by value of the parameter; a base that does not have the
    parameter at all is the same for every value."""
    alike = any(value_of(run, parameter) is not None for run in base)

    def key(run: Row) -> tuple[Any, ...]:
        return value_of(run, parameter) if alike else None, run["sweep_id"], run["repeat"]

    bases = {key(run): run[VALUE] for run in base}
    found: Ratios = {}
    for (value,), group in grouped(runs, (parameter,)).items():
        ratio = paired_ratio((bases.get(key(run)), run[VALUE]) for run in group)
        if value is not None and value not in no_quantity(parameter) and ratio:
            found[value] = ratio
    return found


def _draw(drawn: Sheet, axes: Any, looks: dict[str, Any], name: str, ratios: Ratios) -> None:
    values = list(ratios)
    middle = [ratio.value for ratio in ratios.values()]
    below = [ratio.value - (ratio.value if ratio.low is None else ratio.low) for ratio in ratios.values()]
    above = [(ratio.value if ratio.high is None else ratio.high) - ratio.value for ratio in ratios.values()]
    axes.errorbar(values, middle, yerr=(below, above), fmt="-", color=looks["color"], capsize=2, linewidth=1)
    [marks] = axes.plot(values, middle, linestyle="none", **looks)
    marks.set_gid(drawn.series_id())
    drawn.legend.setdefault(name, marks)
    for crossing in crossings(ratios):
        axes.axvspan(crossing.low, crossing.high, color="#e6e6e6", zorder=0)
        axes.axvline(crossing.at, color=looks["color"], linewidth=0.8, linestyle=":")


def _of(subject: Subject, panel: Panel, parameter: str, name: str, value: float) -> list[Row]:
    """The runs that a speed-up is made of: those of its series at a value, and of the baseline."""
    series = subject.series(panel.runs, parameter)
    base = (runs for other, runs in series.items() if other.split()[0] == subject.baseline)
    return [run for run in (*series[name], *next(base, ())) if value_of(run, parameter) in (value, None)]


def _rows(subject: Subject, panel: Panel, by_name: dict[str, Ratios], parameter: str) -> list[tuple[str, ...]]:
    """A row a point, and one a crossing, between every two series."""
    rows: list[tuple[str, ...]] = []
    series = subject.series(panel.runs, parameter)
    of = partial(_of, subject, panel, parameter)
    for name, ratios in by_name.items():
        for value, ratio in ratios.items():
            verdict = NO_DIFFERENCE if equivalent(ratio) else "faster" if ratio.value > 1 else "slower"
            if ratio.includes(1.0) and not equivalent(ratio):
                verdict = INCONCLUSIVE
            marked = subject.marked(name, of(name, value))
            rows.append((cell(value), panel.title, marked, str(subject.baseline), figures(ratio), verdict))
    names = list(by_name)
    pairs = [(name, str(subject.baseline), ratios) for name, ratios in by_name.items()]
    for number, name in enumerate(names):
        pairs += [(name, other, ratios_between(series[name], series[other], parameter)) for other in names[:number]]
    for name, other, ratios in pairs:
        both = [run for one, runs in series.items() if one in (name, other) or one.split()[0] == other for run in runs]
        for crossing in crossings(ratios):
            where = f"{crossing.low:g} to {crossing.high:g}"
            way = "overtakes" if crossing.upwards else "falls behind"
            rows.append((where, panel.title, subject.marked(name, both), other, "1", f"{way}, at about {crossing.at:.3g}"))
    return rows
