"""The baselines and the background stream through the actors' classes: memory, files and userfaultfds are real."""

from __future__ import annotations

import dataclasses

import pytest

from tests import specs
from tests.workers.test_actors import PAGES, SPEC, run
from workers.page_server import PageServer
from workers.reports import ServerReport, VmmReport
from workers.spec import RunSpec, StrategySpec
from workers.vcpu import Vcpu

ABSENT = specs.fault_mix(absent=1.0)


def on_a_snapshot(spec: RunSpec, cache: str) -> RunSpec:
    """The same run on a private mapping of the snapshot file."""
    source, memory = specs.source(name="file", cache=cache, seed=9), specs.memory("file", PAGES * 4096, 4096)
    return dataclasses.replace(spec, strategy=StrategySpec("file_map", {}), memory=memory, fault_mix=ABSENT, source=source)


def checked(spec: RunSpec) -> tuple[ServerReport, list[VmmReport]]:
    """Run it and read every page in full."""
    server, vcpus = PageServer(), [Vcpu() for _ in range(spec.vmms)]
    try:
        report, reports = run(spec, server, vcpus)
        assert sum(row["wrong_words"] for one in reports for row in one.vcpus) == 0
        assert all(vcpu.verify()["wrong_words"] == 0 for vcpu in vcpus)
        return report, reports
    finally:
        for vcpu in vcpus:
            vcpu.close()
        server.close()


def resolved(reports: list[VmmReport]) -> int:
    return sum(int(row["pages_resolved"]) for one in reports for row in one.vcpus)


@pytest.mark.parametrize("cache", ["warm", "cold"])
@pytest.mark.usefixtures("short_path")
def test_file_map_maps_the_snapshot_in_every_vmm_process(cache: str) -> None:
    report, reports = checked(on_a_snapshot(SPEC, cache))
    assert resolved(reports) == PAGES
    assert report.counters["events"] == 0
    assert {thread["role"] for thread in report.threads} == {"ring"}


@pytest.mark.usefixtures("short_path")
def test_a_stream_reads_ahead_in_the_snapshot_that_vmm_processes_map() -> None:
    spec = dataclasses.replace(
        on_a_snapshot(SPEC, "cold"),
        access=specs.access(order="none", hold_ns=1_000_000_000),
        prefetch=specs.prefetch("order", batch_pages=PAGES // 2),
    )
    report, reports = checked(spec)
    assert report.counters["prefetched_pages"] == PAGES
    assert resolved(reports) == 0


@pytest.mark.parametrize("memory", ["shmem", "anon"])
def test_eager_brings_everything_before_the_first_touch(memory: str) -> None:
    spec = dataclasses.replace(
        SPEC,
        strategy=StrategySpec("eager", {"populate_pages": 100}),
        memory=specs.memory(memory, PAGES * 4096, 4096),
        fault_mix=ABSENT,
        vcpus_per_vmm=4,
    )
    report, reports = checked(spec)
    assert resolved(reports) == PAGES
    assert report.counters["fetched_pages"] == PAGES
    [vmm] = reports
    assert [row["faults"] for row in vmm.vcpus] == [0, 0, 0, 0]
    brought = max(at for row in vmm.vcpus for at, done in zip(row["mark_ns"], row["mark_accesses"], strict=True) if done == 0)
    assert all(at >= brought for row in vmm.vcpus for at, done in zip(row["mark_ns"], row["mark_accesses"], strict=True) if done)


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait", "no_slow_gup", "populate"])
def test_the_stream_and_the_vcpus_share_the_pages_of_every_mapping(strategy: str) -> None:
    spec = dataclasses.replace(
        SPEC,
        strategy=StrategySpec(strategy, {"fault_around_pages": 1}),
        fault_mix=ABSENT,
        access=specs.access(overlap=True),
        vcpus_per_vmm=2,
        uffds_per_vmm=2,
        prefetch=specs.prefetch("order"),
    )
    report, reports = checked(spec)
    assert resolved(reports) + report.counters["prefetched_pages"] == 2 * PAGES
    assert report.counters["fetched_pages"] == PAGES
    assert "prefetch" in {thread["role"] for thread in report.threads}


def test_a_working_set_is_brought_in_its_order_and_stamped() -> None:
    spec = dataclasses.replace(
        SPEC,
        fault_mix=ABSENT,
        vcpus_per_vmm=4,
        access=specs.access(order="none", hold_ns=500_000_000),
        prefetch=specs.prefetch("working_set", pages=(9, 3, 4, 5), mib_per_s=1000.0),
    )
    report, _ = checked(spec)
    assert report.counters["prefetched_pages"] == 4
    assert report.prefetch["prefetch_mark_pages"][-1] == 4
    assert report.prefetch["prefetch_mark_ns"] == sorted(report.prefetch["prefetch_mark_ns"])


def test_shards_of_one_mapping_have_a_reader_and_a_userfaultfd_each() -> None:
    spec = dataclasses.replace(SPEC, vcpus_per_vmm=4, uffds_per_vmm=3)
    report, reports = checked(spec)
    readers = [thread for thread in report.threads if thread["role"] == "reader"]
    assert len(readers) == 3
    assert all(reader["events"] > 0 for reader in readers)
    assert resolved(reports) == PAGES * 3 // 4
