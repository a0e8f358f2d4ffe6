"""What does the extra trip of `no_slow_gup` cost as pages are swapped out again, and where do the strategies cross?"""

from __future__ import annotations

from collections.abc import Iterator

from results.crossover import crossings
from results.design import Row, grouped
from results.location import DataSetError
from results.questions import Answer
from results.store import DataSet
from results.summary import median_or_none, ratio_to
from results.tables import decimals, thousand

TRIPS, STAYS = "no_slow_gup", "no_uffd_wait"
"""The strategy that makes a trip for a swapped page, and the one whose pages never leave the kernel."""
RATES = {"": "faults_per_s", " net": "faults_per_s_net"}
NS_PER_S = 1e9
_COLUMNS = ("strategy", "status", "repeat", "memory_type", "pages", "swapped_pages", *RATES.values())


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a share of swapped pages; rates are medians over repeats. Raises DataSetError without a run of both strategies."""
    runs = [
        run | {"share": (run["swapped_pages"] or 0) / run["pages"]}
        for run in dataset.read("runs", _COLUMNS, sweep_id).to_pylist()
        if run["status"] == "ok" and run["pages"]
    ]
    strategies = sorted({run["strategy"] for run in runs})
    if TRIPS not in strategies or STAYS not in strategies:
        raise DataSetError(f"no run of {TRIPS} beside {STAYS}: both are measured by `loadgen experiment=slow_gup_trip`")
    cells = grouped(runs, ("share", "strategy"))
    shares = sorted({run["share"] for run in runs})

    def rate(share: float, strategy: str, column: str) -> float | None:
        return median_or_none(run[column] for run in cells.get((share, strategy), []))

    def cost_ns(share: float, column: str) -> float | None:
        trips, stays = rate(share, TRIPS, column), rate(share, STAYS, column)
        return NS_PER_S / trips - NS_PER_S / stays if trips and stays else None

    rows = [
        (
            decimals(share, 2),
            *(thousand(rate(share, name, column)) for name in strategies for column in RATES.values()),
            *(decimals(cost_ns(share, column), 0) for column in RATES.values()),
        )
        for share in shares
    ]
    heads = (
        "swapped share",
        *(f"{name}{net}" for name in strategies for net in RATES),
        *(f"extra ns a fault{net}" for net in RATES),
    )
    notes = [
        "thousand faults/s, medians over repeats; net: without the calibrated cost of an emulated exit",
        f"extra ns a fault: what {TRIPS} takes longer than {STAYS} (less than 0: it is faster)",
    ]
    notes += [_crossing(cells, shares, net, column) for net, column in RATES.items()]
    return Answer(heads, rows, notes)


def _crossing(cells: dict[tuple[object, ...], list[Row]], shares: list[float], net: str, column: str) -> str:
    how = net.strip() or "raw"
    found = list(_crossings(cells, shares, column))
    if not found:
        return f"{how}: {TRIPS} and {STAYS} do not cross, as far as the intervals over repeats can tell"
    return "; ".join(f"{how}: {TRIPS} falls behind {STAYS} at a share of about {at:.2f}" for at in found)


def _crossings(cells: dict[tuple[object, ...], list[Row]], shares: list[float], column: str) -> Iterator[float]:
    ratios = {}
    for share in shares:
        stays = {run["repeat"]: run for run in cells.get((share, STAYS), [])}
        ratio = ratio_to(stays, cells.get((share, TRIPS), []), column)
        if ratio is not None:
            ratios[share] = ratio
    yield from (crossing.at for crossing in crossings(ratios) if not crossing.upwards)
