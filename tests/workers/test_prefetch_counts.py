"""What a prefetcher was good for, counted in a run: pages it brought, those never touched, those touched before it came, and
what a fault took while it ran."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from results.store.dataset import DataSet
from results.summaries.prefetch import prefetched
from tests import specs
from tests.conformance.run import spec_of
from tests.in_process import has_run
from workers import _native

PAGES, VCPUS, TOUCHED = 64, 2, 16


def test_pages_never_touched_pages_touched_first_and_faults_meanwhile_are_counted(tmp_path: Path) -> None:
    spec = dataclasses.replace(
        spec_of("uffd_wait", "shmem", "absent", VCPUS),
        access=specs.access(order="sequential", accesses=TOUCHED, hold_ns=500_000_000),
        prefetch=specs.prefetch("order", batch_pages=4, mib_per_s=8.0),
    )
    assert spec.memory.pages == PAGES
    with has_run(spec) as rig:
        served, [vmm] = rig.server.finish(), rig.vmms
        report = vmm.finish()
        vcpus, rounds, records = (part.copy() for part in vmm.fault_chunk(0, PAGES))
    counted = served.counters | served.prefetch
    brought, on_demand = counted["prefetched_pages"], sum(row["pages_resolved"] for row in report.vcpus)
    assert brought + on_demand == report.page_states["resolved"] == PAGES
    assert counted["prefetch_untouched"] == PAGES - VCPUS * TOUCHED
    assert counted["prefetch_skipped"] + counted["prefetch_late"] == on_demand

    dataset = DataSet.open(str(tmp_path))
    with dataset.writer("run-a", "sweep-1") as writer:
        writer.faults(_native.KINDS, _native.OUTCOMES, exits=_native.EXITS).add(vcpus, records, rounds)
        names = ("prefetched_pages", "prefetch_skipped", "prefetch_late", *served.prefetch)
        writer.commit({"status": "ok", "guests": 1, "prefetch": "order"} | {name: counted[name] for name in names}, [])
    [run] = dataset.runs()
    became = prefetched(dataset, run)
    assert became is not None
    assert (became.brought, became.untouched, became.before) == (brought, PAGES - VCPUS * TOUCHED, on_demand)
    took = records["resumed_ns"] - records["raised_ns"]
    early = records["raised_ns"] <= served.prefetch["prefetch_mark_ns"][-1]
    for found, faults in ((became.while_ns, took[early]), (became.after_ns, took[~early])):
        expected = tuple(np.percentile(faults, (50, 99), method="inverted_cdf").tolist()) if len(faults) else None
        assert found == expected
