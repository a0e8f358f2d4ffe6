"""Does the paging rate fall as vCPUs are added? The published table, and this host's beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from results.figures import cell, decimals, thousand, us
from results.statistics.design import grouped
from results.statistics.published import MIB_PER_VCPU, PAGING_RATE, SOURCE
from results.store.dataset import DataSet
from results.summaries.measured import ok_runs
from results.summaries.net import NOTE, bracket, bracket_to, ends, net_text
from results.summaries.summary import median_or_none
from results.tables.answer import Answer, answered

WAIT = "uffd_wait"
MIB = 1 << 20
_COLUMNS = (
    "strategy",
    "engine",
    "vcpus",
    "pages",
    "page_bytes",
    "pages_per_s",
    *ends("pages_per_s_net"),
    "cpu_ns_per_page",
    *ends("cpu_ns_per_page_net"),
)


def answer(dataset: DataSet, sweep_id: str | None = None) -> Answer:
    """One row a number of vCPUs, measured or published, and of several engines one for each that was measured; rates are medians
    over repeats. Raises DataSetError without a run."""
    runs = ok_runs(dataset, _COLUMNS, sweep_id, "paging_rate")
    strategies = sorted({run["strategy"] for run in runs}, key=lambda name: (name != WAIT, name))
    exits = [name for name in strategies if name not in (WAIT, "null")]
    cells = grouped(runs, ("engine", "vcpus", "strategy"))
    engines = list(dict.fromkeys(engine for engine, _, _ in cells))

    def rate(engine: str | None, vcpus: int, strategy: str, column: str = "pages_per_s") -> float | None:
        return median_or_none(run[column] for run in cells.get((engine, vcpus, strategy), []))

    def times(engine: str | None, vcpus: int, strategy: str) -> Iterator[str]:
        mine, base = (cells.get((engine, vcpus, name), ()) for name in (strategy, WAIT))
        raw, of = rate(engine, vcpus, strategy), rate(engine, vcpus, WAIT)
        yield decimals(raw / of if raw and of else None, 2)
        by_repeat = {run["repeat"]: run for run in base}
        yield net_text(bracket_to(by_repeat, mine, "pages_per_s_net"), lambda value: decimals(value, 2))
        yield us(rate(engine, vcpus, strategy, "cpu_ns_per_page"))
        yield net_text(bracket(mine, "cpu_ns_per_page_net"), us)

    rows, groups = [], []
    for engine, vcpus in _measured(runs, engines):
        published = PAGING_RATE.get(vcpus)
        groups.append([run for run in runs if (run["engine"], run["vcpus"]) == (engine, vcpus)])
        sizes = sorted({_mib_per_vcpu(run) for run in groups[-1]})
        rows.append(
            (
                *([cell(engine)] if len(engines) > 1 else []),
                str(vcpus),
                str(published.wait_kpages_per_s) if published else "-",
                str(published.exit_kpages_per_s) if published else "-",
                decimals(published.exit_to_wait if published else None, 2),
                *(thousand(rate(engine, vcpus, name)) for name in strategies),
                *(text for name in exits for text in times(engine, vcpus, name)),
                ", ".join(f"{mib:g}{'*' if mib < MIB_PER_VCPU else ''}" for mib in sizes) or "-",
            )
        )
    heads = (
        *(["engine"] if len(engines) > 1 else []),
        "vcpus",
        "published wait",
        "published exit",
        "published exit / wait",
        *strategies,
        *(f"{name}{what}" for name in exits for what in (" / wait", " / wait net", " CPU us", " net CPU us")),
        "MiB a vCPU",
    )
    notes = [
        "thousand pages/s, medians over repeats; CPU us: of vCPUs, readers and rings, a page; -: not measured here",
        NOTE,
        f"published: {SOURCE}",
    ]
    if any(_mib_per_vcpu(run) < MIB_PER_VCPU for run in runs):
        notes.append(f"* less memory than the {MIB_PER_VCPU} MiB a vCPU of the published table")
    return answered(heads, rows, groups, notes, keys=heads.index("vcpus") + 1)


def _measured(runs: Sequence[dict[str, Any]], engines: Sequence[str | None]) -> list[tuple[str | None, int]]:
    """Engine and number of vCPUs of each row."""
    if len(engines) == 1:
        return [(engines[0], vcpus) for vcpus in sorted({*PAGING_RATE, *(run["vcpus"] for run in runs)})]
    return [(engine, vcpus) for engine in engines for vcpus in sorted({run["vcpus"] for run in runs if run["engine"] == engine})]


def _mib_per_vcpu(run: dict[str, Any]) -> float:
    return float(run["pages"] * run["page_bytes"] / MIB / run["vcpus"])
