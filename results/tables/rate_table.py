"""Rates of the strategies side by side, a row for each value of some axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from results.figures import cell, decimals, thousand, us
from results.statistics.design import BASELINE, Row, grouped
from results.summaries.net import bracket, ends, net_text
from results.summaries.summary import median_or_none

RATES = ("pages_per_s", "cpu_ns_per_page", *ends("pages_per_s_net"), *ends("cpu_ns_per_page_net"))
"""Columns of `runs` that the table shows."""


def in_order(strategies: Iterable[str]) -> list[str]:
    """Strategies as tables show them: the one all others are compared with comes first."""
    return sorted(set(strategies), key=lambda name: (name != BASELINE, name))


def rate_table(
    runs: Sequence[Row], axes: Sequence[str], base: Sequence[Any], strategies: Iterable[str] = ()
) -> tuple[list[str], list[list[str]], list[list[Row]]]:
    """Heads, rows and the runs of each row, in the order of `runs`: thousand pages/s and CPU time a page of
    each strategy, raw and net (medians), and the raw rate as a multiple of that at `base`.

    `base`: the values of `axes` that the others are compared with. `strategies`: those shown, of `runs` when none is given.
    """
    strategies = in_order(strategies or (run["strategy"] for run in runs))
    cells = grouped(runs, (*axes, "strategy"))

    def rate(key: Sequence[Any], strategy: str, column: str) -> float | None:
        return median_or_none(run[column] for run in cells.get((*key, strategy), ()))

    rows, groups = [], []
    for key in dict.fromkeys(tuple(run[axis] for axis in axes) for run in runs):
        row = [cell(value) for value in key]
        for strategy in strategies:
            raw, at_base = (rate(where, strategy, "pages_per_s") for where in (key, base))
            group = cells.get((*key, strategy), ())
            row += [thousand(raw), net_text(bracket(group, "pages_per_s_net"), thousand)]
            row += [us(rate(key, strategy, "cpu_ns_per_page")), net_text(bracket(group, "cpu_ns_per_page_net"), us)]
            row.append(decimals(raw / at_base if raw and at_base else None, 2))
        rows.append(row)
        groups.append([run for strategy in strategies for run in cells.get((*key, strategy), ())])
    heads = [axis.replace("_", " ") for axis in axes]
    for strategy in strategies:
        heads += [f"{strategy}{what}" for what in ("", " net", " CPU us", " net CPU us", " x base")]
    return heads, rows, groups
