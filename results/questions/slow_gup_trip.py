"""What does the extra trip of `no_slow_gup` cost as pages are swapped out again, and where do the strategies cross?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from results.figures import cell, decimals, thousand, us
from results.statistics.crossover import crossings
from results.statistics.design import Row, grouped
from results.statistics.intervals import paired_ratio
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from results.summaries.measured import ok_runs
from results.summaries.net import NOTE, Bracket, bracket, ends, net_text
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

TRIPS, STAYS = "no_slow_gup", "no_uffd_wait"
"""The strategy that makes a trip for a swapped page, and the one whose pages never leave the kernel."""
RAW, NET = "faults_per_s", "faults_per_s_net"
CPU = "cpu_ns_per_page_net"
NS_PER_S = 1e9
_COLUMNS = ("engine", "memory_type", "pages", "swapped_pages", RAW, *ends(NET), "cpu_ns_per_page", *ends(CPU))

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
        *(f"{name}{what}" for name in strategies for what in ("", " net", " CPU us", " net CPU us")),
        "extra ns a fault",
        "extra ns a fault net",
    )
    notes = [
        "thousand faults/s, medians over repeats; CPU us: of vCPUs, readers and rings, a page resolved; -: not measured",
        NOTE,
        f"extra ns a fault: what {TRIPS} takes longer than {STAYS} (less than 0: it is faster)",
    ]
    for engine in engines:
        notes += _notes(cells, engine, f"engine {cell(engine)}, " if len(engines) > 1 else "")
    return answered(heads, rows, groups, notes, keys=2)


def _shares(cells: Cells, engine: str | None) -> list[float]:
    return list(dict.fromkeys(share for of, share, _ in cells if of == engine))


def _rows(cells: Cells, engine: str | None, strategies: Sequence[str]) -> Iterator[tuple[str, ...]]:
    def of(share: float, strategy: str) -> Sequence[Row]:
        return cells.get((engine, share, strategy), [])

    def cost_ns(share: float) -> float | None:
        trips, stays = (median_or_none(run[RAW] for run in of(share, name)) for name in (TRIPS, STAYS))
        return NS_PER_S / trips - NS_PER_S / stays if trips and stays else None

    def net_cost(share: float) -> Bracket | None:
        trips, stays = (bracket(of(share, name), NET) for name in (TRIPS, STAYS))
        if trips is None or stays is None:
            return None
        return Bracket(NS_PER_S / trips.high - NS_PER_S / stays.low, NS_PER_S / trips.low - NS_PER_S / stays.high, trips.n)

    def shown(share: float, name: str) -> Iterator[str]:
        yield thousand(median_or_none(run[RAW] for run in of(share, name)))
        yield net_text(bracket(of(share, name), NET), thousand)
        yield us(median_or_none(run["cpu_ns_per_page"] for run in of(share, name)))
        yield net_text(bracket(of(share, name), CPU), us)

    for share in _shares(cells, engine):
        yield (
            cell(engine),
            decimals(share, 2),
            *(text for name in strategies for text in shown(share, name)),
            decimals(cost_ns(share), 0),
            net_text(net_cost(share), lambda value: decimals(value, 0)),
        )


def _notes(cells: Cells, engine: str | None, whose: str) -> Iterator[str]:
    """Where the strategies cross on an engine, raw and net, or why there is none."""
    if not any((engine, share, TRIPS) in cells for share in _shares(cells, engine)):
        yield (
            f"engine {cell(engine)} ran without {TRIPS}, which needs an exit when fast GUP fails: real vCPUs exit so only where "
            "the kernel offers it (see `loadgen-doctor`)"
        )
        return
    low, high = ends(NET)
    against = {"raw": (RAW, RAW), "net, where slow GUP is the exit's": (low, high), "net, where it is not": (high, low)}
    for what, (trips, stays) in against.items():
        how = whose + what
        found = list(_crossings(cells, engine, trips, stays))
        if not found:
            yield f"{how}: {TRIPS} and {STAYS} do not cross within their intervals"
        else:
            yield "; ".join(f"{how}: {TRIPS} falls behind {STAYS} at a share of about {at:.2f}" for at in found)


def _crossings(cells: Cells, engine: str | None, trips: str, stays: str) -> Iterator[float]:
    ratios = {}
    for share in _shares(cells, engine):
        base = {run["repeat"]: run[stays] for run in cells.get((engine, share, STAYS), [])}
        ratio = paired_ratio((base.get(run["repeat"]), run[trips]) for run in cells.get((engine, share, TRIPS), []))
        lacking = any(None in (run[trips], base.get(run["repeat"])) for run in cells.get((engine, share, TRIPS), []))
        if ratio is not None and not lacking:
            ratios[share] = ratio
    yield from (crossing.at for crossing in crossings(ratios) if not crossing.upwards)
