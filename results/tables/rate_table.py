"""Rates of the strategies side by side, a row for each value of some axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from results.figures import cell, decimals, thousand
from results.statistics.design import BASELINE, grouped
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.summary import median_or_none

Row = Mapping[str, Any]

RATE_COLUMNS = ("status", "strategy", "pages_per_s", "pages_per_s_net")


def ok_runs(dataset: DataSet, columns: Iterable[str], sweep_id: str | None, experiment: str) -> list[dict[str, Any]]:
    """The runs that are ok. Raises DataSetError when there is none, naming the experiment that makes some."""
    wanted = list(dict.fromkeys((*RATE_COLUMNS, *columns)))
    runs = [run for run in dataset.read("runs", wanted, sweep_id).to_pylist() if run["status"] == "ok"]
    if not runs:
        raise DataSetError(f"no run that is ok: `loadgen experiment={experiment}` makes those that answer this")
    return runs


def in_order(strategies: Iterable[str]) -> list[str]:
    """Strategies as tables show them: the one all others are compared with comes first."""
    return sorted(set(strategies), key=lambda name: (name != BASELINE, name))


def rate_table(
    runs: Sequence[Row], axes: Sequence[str], base: Sequence[Any], strategies: Iterable[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows, in the order of `runs`: thousand pages/s of each strategy, raw and net (medians), and as a multiple of its
    rate at `base`.

    `base`: the values of `axes` that the others are compared with. `strategies`: those shown, of `runs` when none is given.
    """
    strategies = in_order(strategies or (run["strategy"] for run in runs))
    cells = grouped(runs, (*axes, "strategy"))

    def rate(key: Sequence[Any], strategy: str, column: str) -> float | None:
        return median_or_none(run[column] for run in cells.get((*key, strategy), ()))

    rows = []
    for key in dict.fromkeys(tuple(run[axis] for axis in axes) for run in runs):
        row = [cell(value) for value in key]
        for strategy in strategies:
            raw, at_base = (rate(where, strategy, "pages_per_s") for where in (key, base))
            net = rate(key, strategy, "pages_per_s_net")
            row += [thousand(raw), thousand(net), decimals(raw / at_base if raw and at_base else None, 2)]
        rows.append(row)
    heads = [axis.replace("_", " ") for axis in axes]
    for strategy in strategies:
        heads += [strategy, "net", "x base"]
    return heads, rows
