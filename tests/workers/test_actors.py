"""Whole guests through the actors' classes, in one process and without Ray: userfaultfd, memfds and sockets are real."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading

import numpy as np
import pytest

from tests import specs
from workers import _native
from workers.page_server import PageServer
from workers.protocol.handshake import HandshakeError
from workers.reports import ServerReport, VmmReport
from workers.spec import PlacementSpec, RunSpec, StrategySpec
from workers.vcpu import Vcpu

PAGES = 1024
SPEC = specs.run(
    run_id="run",
    sweep_id="sweep",
    repeat=0,
    seed=3,
    engine="thread",
    strategy=StrategySpec("uffd_wait", {"fault_around_pages": 1}),
    memory=specs.memory("shmem", PAGES * 4096, 4096),
    fault_mix=specs.fault_mix(hit=0.25, minor=0.5, absent=0.25),
    access=specs.access(),
    page_server=specs.page_server(),
    placement=PlacementSpec("none", ((),) * 4, ((),) * 4),
    vcpus=4,
    vcpus_per_vmm=1,
    uffds_per_vmm=1,
    cores=2,
    verify="word",
    watchdog_s=10.0,
    sample_every=1,
    record_capacity=PAGES,
)


def run(spec: RunSpec, server: PageServer, vcpus: list[Vcpu]) -> tuple[ServerReport, list[VmmReport]]:
    address, filled = server.open(spec)
    assert filled["unprepared"] == 0
    for number, vcpu in enumerate(vcpus):
        vcpu.open(spec, number, address)
    server.serve()
    for vcpu in vcpus:
        assert vcpu.prepare()["unprepared"] == 0
    threads = [threading.Thread(target=vcpu.run) for vcpu in vcpus]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.stop_reason() == ""
    report = server.finish()
    return report, [vcpu.finish() for vcpu in vcpus]


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait", "no_slow_gup"])
def test_four_vmm_processes_share_a_guest_and_every_page_is_right(strategy: str) -> None:
    spec = dataclasses.replace(SPEC, strategy=StrategySpec(strategy, {"fault_around_pages": 1}))
    server, vcpus = PageServer(), [Vcpu() for _ in range(4)]
    report, reports = run(spec, server, vcpus)
    assert sum(vcpu["pages_resolved"] for one in reports for vcpu in one.vcpus) == PAGES * 3 // 4
    assert report.counters["fetched_pages"] == PAGES // 4
    assert report.counters["events"] == (PAGES * 3 // 4 if strategy == "uffd_wait" else 0)
    asked = {thread["number"]: thread["requests"] for thread in report.threads if thread["role"] == "ring"}
    assert sorted(asked) == [0, 1, 2, 3]  # a ring for each reader, and each vCPU asks at the one of its number
    assert sum(asked.values()) == (0 if strategy == "uffd_wait" else PAGES // 4)
    assert all(asked.values()) or strategy == "uffd_wait"
    for vcpu, one in zip(vcpus, reports, strict=True):
        verified = vcpu.verify()
        assert verified["wrong_words"] == 0
        assert verified["pages"] == PAGES // 4 + one.vcpus[0]["pages_resolved"]  # every hit page, and its own
        assert one.vcpus[0]["wrong_words"] == 0
        vcpu.close()
    server.close()


MEMORIES = {
    "shmem": specs.memory("shmem", PAGES * 4096, 4096),
    "anon": specs.memory("anon", PAGES * 4096, 4096),
    "hugetlb": specs.memory("hugetlb", 16 << 21, 2 << 20),
}


@pytest.mark.usefixtures("huge_pages")
@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait", "no_slow_gup"])
@pytest.mark.parametrize(
    ("memory", "vcpus", "vcpus_per_vmm", "uffds"),
    [
        (memory, vcpus, vcpus_per_vmm, uffds)
        for memory in MEMORIES
        for vcpus, vcpus_per_vmm, uffds in [(1, 1, 1), (4, 4, 1), (4, 4, 2), (4, 2, 2)]
        if memory != "anon" or vcpus_per_vmm == vcpus  # anonymous memory has one mapping, so one VMM process
    ],
)
def test_every_fault_of_every_strategy_and_memory_is_counted_once(
    memory: str, strategy: str, vcpus: int, vcpus_per_vmm: int, uffds: int
) -> None:
    minor = 0.0 if memory == "anon" else 0.25  # anonymous memory has no page cache
    mix = specs.fault_mix(hit=0.25, minor=minor, absent=0.75 - minor)
    spec = dataclasses.replace(
        SPEC,
        strategy=StrategySpec(strategy, {"fault_around_pages": 1}),
        memory=MEMORIES[memory],
        fault_mix=mix,
        access=specs.access(overlap=True),
        vcpus=vcpus,
        vcpus_per_vmm=vcpus_per_vmm,
        uffds_per_vmm=uffds,
    )
    pages = spec.memory.pages
    server, vmms = PageServer(), [Vcpu() for _ in range(spec.vmms)]
    report, reports = run(spec, server, vmms)
    rows = [row for one in reports for row in one.vcpus]
    # Overlapping vCPUs touch every page: each VMM process resolves each page that was no hit once, by whichever vCPU is first.
    assert [sum(row["pages_resolved"] for row in one.vcpus) for one in reports] == [pages * 3 // 4] * spec.vmms
    assert [row["vcpu"] for row in rows] == list(range(vcpus))
    assert all(row["accesses"] == pages for row in rows)
    assert all(row["recorded"] == row["faults"] for row in rows)
    assert sum(row["faults"] for row in rows) >= spec.vmms * pages * 3 // 4
    assert sum(row["wrong_words"] for row in rows) == 0
    fetched = pages * (3 if memory == "anon" else 2) // 4
    if memory != "anon":  # a page in the memfd is fetched for all VMM processes
        assert report.counters["fetched_pages"] == fetched
    else:  # a copy for each request
        assert report.counters["fetched_pages"] >= fetched * spec.vmms
    exits = strategy != "uffd_wait"
    assert (report.counters["events"] == 0) == exits
    assert (sum(one.counters["requests"] for one in reports) > 0) == exits
    for vmm in vmms:
        verified = vmm.verify()
        assert (verified["pages"], verified["wrong_words"]) == (pages, 0)
        vmm.close()
    server.close()


def test_a_page_server_names_the_vmm_process_that_did_not_come() -> None:
    spec = dataclasses.replace(SPEC, page_server=specs.page_server(handshake_timeout_s=0.5))
    server, vcpus = PageServer(), [Vcpu(), Vcpu()]
    address, _ = server.open(spec)
    for number, vcpu in zip((0, 3), vcpus, strict=True):
        vcpu.open(spec, number, address)
    with pytest.raises(HandshakeError, match=r"2 of 4 userfaultfds arrived within 0.5 s, missing from VMM processes 1, 2"):
        server.serve()
    for vcpu in vcpus:
        vcpu.close()
    server.close()


def test_a_failed_open_leaves_nothing_behind_and_the_actor_can_be_used() -> None:
    server, vcpu = PageServer(), Vcpu()
    spec = dataclasses.replace(SPEC, vcpus=1, fault_mix=specs.fault_mix(minor=1.0))
    run(spec, server, [vcpu])
    vcpu.close()
    server.close()
    before = len(os.listdir("/proc/self/fd"))
    impossible = dataclasses.replace(spec, memory=specs.memory("hugetlb", 1 << 40, 2 << 20))
    with pytest.raises(_native.KernelError):
        server.open(impossible)
    assert len(os.listdir("/proc/self/fd")) == before
    address, _ = server.open(spec)
    opened = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No such file"):
        vcpu.open(spec, 0, dataclasses.replace(address, socket_path=address.socket_path + "-not"))
    assert len(os.listdir("/proc/self/fd")) == opened
    with pytest.raises(RuntimeError, match="open comes first"):
        vcpu.prepare()
    run(spec, server, [vcpu])
    vcpu.close()
    vcpu.close()
    server.close()
    server.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_fault_chunks_put_together_are_every_fault_once_in_order_of_stages() -> None:
    spec = dataclasses.replace(SPEC, vcpus_per_vmm=2)
    server, vcpus = PageServer(), [Vcpu() for _ in range(2)]
    run(spec, server, vcpus)
    pages = []
    for number, vcpu in enumerate(vcpus):
        start = 0
        while (chunk := vcpu.fault_chunk(start, 100))[0].size:
            numbers, _, faults = chunk
            assert set(numbers.tolist()) <= {2 * number, 2 * number + 1}
            stages = [faults[name].astype(np.int64) for name in ("raised_ns", "delivered_ns", "fetched_ns", "installed_ns")]
            assert all((before <= after).all() for before, after in itertools.pairwise(stages))
            assert (faults["raised_ns"] <= faults["resumed_ns"]).all()
            pages += faults["page"].tolist()
            start += numbers.size
        vcpu.close()
    server.close()
    assert len(pages) == len(set(pages)) == PAGES * 3 // 4


def test_actors_are_used_again_for_another_guest_and_leave_nothing_open() -> None:
    server, vcpus = PageServer(), [Vcpu() for _ in range(4)]
    run(SPEC, server, vcpus)
    for vcpu in vcpus:
        vcpu.close()
    server.close()
    before = len(os.listdir("/proc/self/fd"))
    for strategy in ("no_uffd_wait", "null"):
        options = {} if strategy == "null" else {"fault_around_pages": 4}
        mix = specs.fault_mix(minor=1.0)
        run(dataclasses.replace(SPEC, strategy=StrategySpec(strategy, options), fault_mix=mix), server, vcpus)
        for vcpu in vcpus:
            vcpu.close()
        server.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_guest_whose_page_server_is_gone_is_said_so() -> None:
    server = PageServer()
    address, _ = server.open(SPEC)
    server.close()
    gone = dataclasses.replace(address, pid=2**22 - 1)
    with pytest.raises(ConnectionError, match=r"the page server \(pid [0-9]+\) has ended"):
        Vcpu().open(SPEC, 0, gone)


def test_a_real_failure_of_the_kernel_names_call_errno_address_and_length() -> None:
    spec = dataclasses.replace(SPEC, memory=specs.memory("hugetlb", 1 << 40, 2 << 20), fault_mix=specs.fault_mix(minor=1.0))
    with pytest.raises(_native.KernelError, match=r"populating|mmap") as failure:
        PageServer().open(spec)
    assert failure.value.errno is not None
    assert "errno" in str(failure.value)
