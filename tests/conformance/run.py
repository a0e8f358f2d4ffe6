"""One cell of the conformance table on the real kernel: 1 vCPU, every page in one state, each touched once."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests import specs
from tests.conformance.table import COUNTED, Row
from tests.in_process import Ran, run_in_process
from workers.registry import strategy_entry
from workers.spec import PlacementSpec, RunSpec, StrategySpec

PAGES = {"shmem": 64, "anon": 64, "hugetlb": 8}
PAGE_BYTES = {"shmem": 4096, "anon": 4096, "hugetlb": 2 << 20}


def spec_of(name: str, memory: str, state: str, vcpus: int = 1, readers: int = 1, fault_around_pages: int = 1) -> RunSpec:
    """The run of a cell; `name` as the table has it, with options behind a comma. With several vCPUs all touch every page."""
    strategy, _, options = name.partition(", ")
    entry = strategy_entry(strategy)
    asked = {option["name"]: option["default"] for option in entry["options"]}
    for one in filter(None, options.split(", ")):
        key, _, value = one.partition("=")
        [choices] = [option["choices"] for option in entry["options"] if option["name"] == key]
        asked[key] = choices.index(value) if choices else int(value)
    if "fault_around_pages" in asked:
        asked["fault_around_pages"] = fault_around_pages
    kind, _, where = state.partition(" ")
    pages = PAGES[memory]
    mix = specs.fault_mix(**{kind: 1.0}, poisoned_at="resolved" if where == "after resolving" else "source")
    return specs.run(
        run_id="run",
        sweep_id="sweep",
        repeat=0,
        seed=5,
        engine="thread",
        strategy=StrategySpec(strategy, asked),
        memory=specs.memory(memory, pages * PAGE_BYTES[memory], PAGE_BYTES[memory]),
        fault_mix=mix,
        access=specs.access(order="sequential", overlap=vcpus > 1),
        page_server=specs.page_server(readers_per_uffd=readers),
        placement=PlacementSpec("none", ((),) * vcpus, ((),) * readers),
        vcpus=vcpus,
        vcpus_per_vmm=vcpus,
        uffds_per_vmm=1,
        cores=2,
        verify="page",
        watchdog_s=10.0,
        sample_every=1,
        record_capacity=4 * pages,
    )


def run_cell(name: str, memory: str, state: str, vcpus: int = 1, readers: int = 1, fault_around_pages: int = 1) -> Ran:
    """Run it once."""
    return run_in_process(spec_of(name, memory, state, vcpus, readers, fault_around_pages))


def expected(row: Row) -> dict[str, Any]:
    """The results that the table gives for a run of its line."""
    pages = PAGES[row.memory]
    return {
        "trouble": ("", 0, 0, []),
        "faults": {(row.state.split()[0], row.outcome): pages} if row.outcome else {},
        "page_states": {row.ends: pages},
        "counts": {key: row.counts.get(key, 0) * pages for key in COUNTED},
        "refused": pages if row.state.startswith("poisoned") else 0,
    }


def found(ran: Ran) -> dict[str, Any]:
    """The same of a run that was made."""
    together = Counter(ran.vcpus) + Counter(ran.server)
    together["requests"] = ran.vcpus["requests"]  # counted by the page server that answers, too
    return {
        "trouble": (ran.stop_reason, ran.unprepared, ran.wrong_words, ran.broken),
        "faults": ran.faults,
        "page_states": +ran.page_states,
        "counts": {key: together[key] for key in COUNTED},
        "refused": ran.refused,
    }
