"""The style of plots: series distinct without colour (markers, dashes, hatches), on paper, and as SVG with text that stays text.

Colours are those of Okabe and Ito, which are distinct under any colour vision; yellow is left out, for paper.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6F6F6F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = (
    "-",
    (0, (5, 1.5)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (8, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
    (0, (6, 1, 2, 1)),
)
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo", "----")

SERIES = "series-"
"""Prefix of the id of every group of marks that a reader is meant to see."""

TITLE_WIDTH = 70
"""Characters of a panel's title in a line: more would reach into the panel beside it."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "uffd-loadgen",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#d9d9d9",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}


@dataclass(frozen=True)
class Table:
    """What a plot shows, in figures."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """`series`: how many groups of marks the SVG holds, each with an id that begins with SERIES. `notes`: what must be known
    to read it rightly."""

    name: str
    title: str
    caption: str
    svg: str
    series: int
    table: Table | None = None
    notes: Sequence[str] = ()


@dataclass
class Sheet:
    """A plot being drawn: a grid of panels, and how many series are on it."""

    name: str
    figure: Figure
    panels: list[Axes]
    series: int = 0
    legend: dict[str, Any] = field(default_factory=dict)

    def series_id(self) -> str:
        """The id of the next group of marks."""
        self.series += 1
        return f"{SERIES}{self.series}"

    def svg(self, columns: int = 4) -> str:
        """The finished drawing, its legend above it; ids are its own, so that many can be in one page."""
        out = io.StringIO()
        with style():
            for axes in self.panels:
                axes.set_title(textwrap.fill(axes.get_title("left"), TITLE_WIDTH), loc="left")
            if self.legend:
                self.figure.legend(
                    list(self.legend.values()), list(self.legend), loc="outside upper left", ncols=min(columns, len(self.legend))
                )
            self.figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        text = out.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r'\b(id=")|(href="#)|(url\(#)', lambda found: f"{found.group(0)}{self.name}-", text)
        return re.sub(r'<svg ([^>]*?)width="[^"]*pt" height="[^"]*pt"', r"<svg \1", text, count=1)


def sheet(name: str, panels: int, *, columns: int = 2, width: float = 10.0, height: float = 3.0) -> Sheet:
    """An empty sheet of `panels`; `width` of the whole and `height` of a row of panels, in inches."""
    columns = min(columns, panels)
    rows = ceil(panels / columns)
    with style():
        figure = Figure(figsize=(width, height * rows + 0.5), layout="constrained")
        FigureCanvasSVG(figure)
        grid = figure.subplots(rows, columns, squeeze=False)
    flat = [axes for row in grid for axes in row]
    for unused in flat[panels:]:
        unused.remove()
    return Sheet(name, figure, flat[:panels])


def style() -> Any:
    """The context in which artists are made."""
    return matplotlib.rc_context(_STYLE)


def look(names: Sequence[str], name: str) -> dict[str, Any]:
    """Colour and marker of a series among `names`, the same in every plot."""
    number = names.index(name)
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def dashes(names: Sequence[str], name: str) -> dict[str, Any]:
    """Colour and dashes of a series that is drawn as a line without points."""
    number = names.index(name)
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}


def ring(drawn: Sheet, axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """A ring around each of the points, whose runs are flagged as noisy."""
    if points:
        at, value = zip(*points, strict=True)
        [rings] = axes.plot(at, value, linestyle="none", marker="o", fillstyle="none", markersize=11, color="#b00020")
        drawn.legend.setdefault("runs flagged as noisy", rings)


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with ticks that people read."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def along(axes: Axes, values: Sequence[float]) -> None:
    """Ticks at the values measured; doubling ones evenly apart."""
    numbers = sorted(set(values))
    if len(numbers) > 2 and numbers[0] > 0 and numbers[-1] / numbers[0] >= 4:
        axes.set_xscale("log", base=2)
    if len(numbers) <= 12:
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers], minor=False)
        axes.set_xticks([], minor=True)
