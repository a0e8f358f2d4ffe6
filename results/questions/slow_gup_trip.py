"""What does the extra trip of `no_slow_gup` cost as pages are swapped out again, and where do the strategies cross?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.figures import cell, decimals, thousand
from results.statistics.crossover import crossings
from results.statistics.design import Row, grouped
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.measured import ok_runs
from results.summaries.summary import median_or_none, ratio_to
from results.tables.answer import Answer, answered

TRIPS, STAYS = "no_slow_gup", "no_uffd_wait"
"""The strategy that makes a trip for a swapped page, and the one whose pages never leave the kernel."""
RATES = {"": "faults_per_s", " net": "faults_per_s_net"}
NS_PER_S = 1e9
_COLUMNS = ("engine", "memory_type", "pages", "swapped_pages", *RATES.values())

Cells = Mapping[tuple[Any, ...], Sequence[Row]]
"""Runs by (engine, share of swapped pages, strategy), in that order."""


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row an engine and a share of swapped pages; rates are medians over repeats.

    An engine that ran without TRIPS has rows of its other strategies. Raises DataSetError without a run of STAYS.
    """
    runs = [
        run | {"share": (run["swapped_pages"] or 0) / run["pages"]}
        for run in ok_runs(dataset, _COLUMNS, sweep_id, "slow_gup_trip")
        if run["pages"]
    ]
    strategies = sorted({run["strategy"] for run in runs})
    if STAYS not in strategies or len(strategies) < 2:
        raise DataSetError(
            f"no run of {TRIPS} beside {STAYS}: both are measured by `loadgen experiment=slow_gup_trip`, and what real vCPUs "
            "can do of it by `loadgen experiment=slow_gup_trip_kvm`"
        )
    cells = grouped(runs, ("engine", "share", "strategy"))
    engines = list(dict.fromkeys(engine for engine, _, _ in cells))
    rows = [row for engine in engines for row in _rows(cells, engine, strategies)]
    groups = [
        [run for name in strategies for run in cells.get((engine, share, name), ())]
        for engine in engines
        for share in _shares(cells, engine)
    ]
    heads = (
        "engine",
        "swapped share",
        *(f"{name}{net}" for name in strategies for net in RATES),
        *(f"extra ns a fault{net}" for net in RATES),
    )
    notes = [
        "thousand faults/s, medians over repeats; net: without the calibrated cost of an emulated exit; -: not measured",
        f"extra ns a fault: what {TRIPS} takes longer than {STAYS} (less than 0: it is faster)",
    ]
    for engine in engines:
        notes += _notes(cells, engine, f"engine {cell(engine)}, " if len(engines) > 1 else "")
    return answered(heads, rows, groups, notes, keys=2)


def _shares(cells: Cells, engine: str | None) -> list[float]:
    return list(dict.fromkeys(share for of, share, _ in cells if of == engine))


def _rows(cells: Cells, engine: str | None, strategies: Sequence[str]) -> Iterator[tuple[str, ...]]:
    def rate(share: float, strategy: str, column: str) -> float | None:
        return median_or_none(run[column] for run in cells.get((engine, share, strategy), []))

    def cost_ns(share: float, column: str) -> float | None:
        trips, stays = rate(share, TRIPS, column), rate(share, STAYS, column)
        return NS_PER_S / trips - NS_PER_S / stays if trips and stays else None

    for share in _shares(cells, engine):
        yield (
            cell(engine),
            decimals(share, 2),
            *(thousand(rate(share, name, column)) for name in strategies for column in RATES.values()),
            *(decimals(cost_ns(share, column), 0) for column in RATES.values()),
        )


def _notes(cells: Cells, engine: str | None, whose: str) -> Iterator[str]:
    """Where the strategies cross on an engine, raw and net, or why there is none."""
    if not any((engine, share, TRIPS) in cells for share in _shares(cells, engine)):
        yield (
            f"engine {cell(engine)} ran without {TRIPS}, which needs an exit when fast GUP fails: real vCPUs exit so only where "
            "the kernel offers it (see `loadgen-doctor`)"
        )
        return
    for net, column in RATES.items():
        how = whose + (net.strip() or "raw")
        found = list(_crossings(cells, engine, column))
        if not found:
            yield f"{how}: {TRIPS} and {STAYS} do not cross within their intervals"
        else:
            yield "; ".join(f"{how}: {TRIPS} falls behind {STAYS} at a share of about {at:.2f}" for at in found)


def _crossings(cells: Cells, engine: str | None, column: str) -> Iterator[float]:
    ratios = {}
    for share in _shares(cells, engine):
        stays = {run["repeat"]: run for run in cells.get((engine, share, STAYS), [])}
        ratio = ratio_to(stays, cells.get((engine, share, TRIPS), []), column)
        if ratio is not None:
            ratios[share] = ratio
    yield from (crossing.at for crossing in crossings(ratios) if not crossing.upwards)
