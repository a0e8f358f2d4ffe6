"""What a report is about: its runs, cut into panels (one configuration but for the strategy and what a plot has along x) and
series (a strategy with its options)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from results.figures import cell
from results.schema import RUN_COLUMNS
from results.statistics.design import Row, axes, baseline_of, grouped, of_the_strategy, value_of
from results.summaries.noise import flagged

MOST_PANELS = 8
"""Panels of a plot; its caption names how many are left out."""


@dataclass(frozen=True)
class Panel:
    """Runs that are alike but for the series and what is along x; `title` names what sets them apart from other panels."""

    title: str
    runs: Sequence[Row]
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """The runs that are ok, of the rows of `runs` that were asked for."""

    runs: Sequence[Row]

    @cached_property
    def baseline(self) -> str | None:
        """The strategy the others are compared with."""
        return baseline_of(run["strategy"] for run in self.runs)

    @cached_property
    def series_by(self) -> tuple[str, ...]:
        """The axes of series: the strategy, and those of its options that were varied."""
        varied = axes(self.runs, known=("strategy",))
        return ("strategy", *(name for name in varied if of_the_strategy(name)))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every series by name, the baseline's first, and the strategies alone: the order of colours."""
        series = (name_of(self.series_by, values) for values in grouped(self.runs, self.series_by))
        return tuple(dict.fromkeys((*series, *(str(name) for (name,) in grouped(self.runs, ("strategy",))))))

    def series(self, runs: Sequence[Row], along: str | None = None) -> dict[str, list[Row]]:
        """The runs by series; `along`: the parameter along x, which separates none."""
        by = tuple(name for name in self.series_by if name != along)
        return {name_of(by, values): group for values, group in grouped(runs, by).items()}

    def named(self, values: Sequence[Any]) -> str:
        """A series by its values of `series_by`."""
        return name_of(self.series_by, values)

    def panels(self, along: str | None = None) -> list[Panel]:
        """All panels of a plot that has `along` along x."""
        known = (*self.series_by, *((along,) if along else ()))
        apart = axes(self.runs, known=known)
        return [
            Panel(title(apart, values), group, dict(zip(apart, values, strict=True)))
            for values, group in grouped(self.runs, apart).items()
        ]

    def ends(self) -> list[Panel]:
        """Panels of single configurations, of those that differ in the number of vCPUs only the smallest and the largest."""
        kept = []
        for panel in self.panels(along="vcpus"):
            numbers = sorted({run["vcpus"] for run in panel.runs if run["vcpus"] is not None})
            for number in dict.fromkeys((numbers[0], numbers[-1]) if numbers else ()):
                runs = [run for run in panel.runs if run["vcpus"] == number]
                kept.append(Panel(f"{panel.title}, {number} vCPU{'s' * (number != 1)}".removeprefix(", "), runs))
        return kept

    def left_out_between(self) -> str:
        """The sentence of a caption on numbers of vCPUs that `ends` leaves out."""
        between = set()
        for panel in self.panels(along="vcpus"):
            between |= set(sorted({run["vcpus"] for run in panel.runs if run["vcpus"] is not None})[1:-1])
        if not between:
            return ""
        numbers = ", ".join(map(str, sorted(between)))
        return (
            f" Only the fewest and the most vCPUs are shown here; left out: {numbers} vCPUs (--where vcpus=N shows one of them)."
        )

    def marked(self, name: str, runs: Iterable[Row]) -> str:
        """A series as tables name it: with a mark where runs of it are flagged as noisy."""
        return f"{name} !" if flagged(runs) else name

    def numbers(self) -> list[str]:
        """Parameters with at least two values, all of them numbers, one that stands for something else left out."""
        found = []
        for name in axes(self.runs, known=("strategy",), without=("sweep_id",)):
            values = {value_of(run, name) for run in self.runs} - {None, *no_quantity(name)}
            if len(values) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
                found.append(name)
        return [*found, *self._shares()]

    def _shares(self) -> list[str]:
        """Shares of the fault mix in which the mixes differ, when mixes were varied by name."""
        names = {value_of(run, "fault_mix") for run in self.runs}
        shares = ("absent", "swapped", "poisoned", "hit")
        for key in (f"fault_mix.{kind}" for kind in shares):
            by_name = {value_of(run, "fault_mix"): value_of(run, key) for run in self.runs}
            if len(names) > 2 and None not in by_name.values() and len(set(by_name.values())) == len(names):
                return [key]
        return []


def no_quantity(parameter: str) -> dict[int, str]:
    """Values of a parameter that are no quantities, with what they stand for: `rate_per_s=0` is the closed loop."""
    found = next((column.zero for column in RUN_COLUMNS if column.name == parameter), "")
    return {0: found} if found else {}


def name_of(by: Sequence[str], values: Sequence[Any]) -> str:
    """A series in words: the strategy and its options."""
    options = (
        f"{name.removeprefix('strategy.')}={cell(value)}"
        for name, value in zip(by[1:], values[1:], strict=True)
        if value is not None
    )
    return " ".join((str(values[0]), *options))


def title(names: Sequence[str], values: Sequence[Any]) -> str:
    """Parameters with their values in words."""
    return ", ".join(f"{name.replace('_', ' ')} {cell(value)}" for name, value in zip(names, values, strict=True))


def left_out(panels: Sequence[Panel]) -> str:
    """The sentence of a caption on panels that are not drawn."""
    if len(panels) <= MOST_PANELS:
        return ""
    return f" The first {MOST_PANELS} of {len(panels)} configurations are drawn; --where narrows the report to others."
