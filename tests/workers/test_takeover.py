"""A page server's process is killed while it serves, again and again: the next one takes its place, and nothing is lost."""

from __future__ import annotations

import dataclasses
import os
import random
import threading
import time
from collections.abc import Iterator

import pytest

from tests import specs
from tests.in_process import has_run
from tests.workers.server_process import ServerProcess
from tests.workers.test_actors import SPEC
from workers.page_server import PageServer
from workers.source import Source
from workers.spec import RunSpec, SourceSpec, StrategySpec
from workers.vcpu import Vcpu

PAGES = 4096
KILLS = 4


def spec_for(strategy: str, memory: str, source: SourceSpec | None = None) -> RunSpec:
    one_mapping = memory == "anon"
    return dataclasses.replace(
        SPEC,
        strategy=StrategySpec(strategy, {"fault_around_pages": 1}),
        memory=specs.memory(memory, PAGES * 4096, 4096),
        fault_mix=specs.fault_mix(absent=1.0),
        access=specs.access(overlap=True),
        page_server=specs.page_server(delay_us=50.0),
        source=source or specs.source(seed=5),
        vcpus_per_vmm=4 if one_mapping else 2,
        record_capacity=2 * PAGES,
    )


class Guest:
    """A guest whose VMM processes are this one, and whose page server is another."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.server = ServerProcess()
        self.vmms = [Vcpu() for _ in range(spec.vmms)]
        address, _ = self.server.call("open", spec)
        for number, vmm in enumerate(self.vmms):
            vmm.open(spec, number, address)
        self.server.call("serve")
        for vmm in self.vmms:
            assert vmm.prepare()["unprepared"] == 0
        self.threads = [threading.Thread(target=vmm.run) for vmm in self.vmms]

    def replace_server(self) -> int:
        """Kill the page server and let another take over; how many pages the dead one had in flight."""
        self.server.kill()
        self.server = ServerProcess()
        address = self.server.call("take_over", self.spec, self.vmms[0].address())
        reclaimed = sum(vmm.hand_over(address) for vmm in self.vmms)
        self.server.call("serve")
        return reclaimed

    def close(self) -> None:
        for vmm in self.vmms:
            vmm.close()
        self.server.kill()


@pytest.fixture
def source() -> Iterator[Source]:
    source = Source()
    yield source
    source.close()


@pytest.mark.parametrize(
    ("strategy", "memory", "remote"),
    [
        ("uffd_wait", "shmem", False),
        ("no_slow_gup", "shmem", False),
        ("no_uffd_wait", "anon", False),
        ("uffd_wait", "shmem", True),
    ],
)
def test_a_run_whose_page_server_is_killed_at_random_moments_ends_with_every_page_right(
    strategy: str, memory: str, remote: bool, source: Source
) -> None:
    spec = spec_for(strategy, memory, specs.source(name="remote", seed=5) if remote else None)
    if remote:
        spec = dataclasses.replace(spec, source=dataclasses.replace(spec.source, address=source.open(spec)))
    kill_page_servers(spec)


def test_page_servers_are_killed_in_any_round_and_each_round_has_every_page() -> None:
    spec = spec_for("uffd_wait", "shmem")
    kill_page_servers(dataclasses.replace(spec, measure_s=3600.0, rounds_limit=4, record_capacity=8 * PAGES), rounds=4)


def kill_page_servers(spec: RunSpec, rounds: int = 1) -> None:
    """A run of `spec`, which touches every page, ends with every page right though KILLS page servers are killed under it."""
    guest = Guest(spec)
    chance = random.Random(7)
    for thread in guest.threads:
        thread.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0, 0.05))
        guest.replace_server()
    for thread in guest.threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in guest.threads)
    assert guest.server.call("stop_reason") == ""
    served = guest.server.call("finish")
    reports = [vmm.finish() for vmm in guest.vmms]
    for vmm, report in zip(guest.vmms, reports, strict=True):
        assert vmm.verify() | {"seconds": 0} == {
            "pages": PAGES,
            "poisoned": 0,
            "wrong_words": 0,
            "first_wrong": "",
            "gone": 0,
            "seconds": 0,
        }
        assert report.page_states["in flight"] == 0
        assert sum(row["pages_resolved"] for row in report.vcpus) == PAGES * rounds
        assert all(row["wrong_words"] == 0 and row["accesses"] == PAGES * rounds for row in report.vcpus)
    ends = ("events_resolved", "resolved_again", "events_lost", "events_poisoned", "events_dropped")
    assert served.counters["events"] == sum(served.counters[end] for end in ends), "what dead page servers counted is kept"
    guest.close()


def test_a_vmm_process_says_where_the_guest_is_and_a_page_server_that_is_gone_cannot_be_attached_to() -> None:
    guest = Guest(spec_for("uffd_wait", "shmem"))
    held = guest.vmms[0].address()
    assert held.pid == os.getpid() and held.region_fd >= 0 and held.socket_path == ""
    dead = dataclasses.replace(held, pid=2**22 - 7)
    with pytest.raises(ConnectionError, match=r"the VMM process \(pid 4194297\) has ended, or runs on another host"):
        guest.server.call("take_over", guest.spec, dead)
    guest.close()


def test_the_guest_and_its_descriptors_are_gone_when_the_vmm_processes_close_after_a_takeover() -> None:
    ServerProcess().kill()  # the first of them leaves descriptors of multiprocessing's own
    before = len(os.listdir("/proc/self/fd"))
    guest = Guest(spec_for("uffd_wait", "shmem"))
    guest.replace_server()
    for thread in guest.threads:
        thread.start()
    for thread in guest.threads:
        thread.join(60)
    guest.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_page_server_in_anothers_place_wakes_the_sleepers_whose_events_were_read_and_not_answered() -> None:
    pages = 64
    spec = dataclasses.replace(
        spec_for("uffd_wait", "shmem"),
        memory=specs.memory("shmem", pages * 4096, 4096),
        page_server=specs.page_server(delay_us=3600e6),
        vcpus=1,
        vcpus_per_vmm=1,
        watchdog_s=30.0,
    )
    first, second, vmm = PageServer(), PageServer(), Vcpu()
    try:
        vmm.open(spec, 0, first.open(spec)[0])
        first.serve()
        vmm.prepare()
        running = threading.Thread(target=vmm.run)
        running.start()
        while not any(one["page_state"] == "in flight" for one in first.look()["standing"]):
            time.sleep(0.001)
        assert first.finish().counters["events_dropped"] == 1
        held = second.take_over(dataclasses.replace(spec, page_server=specs.page_server()), vmm.address())
        assert vmm.hand_over(held) == 1
        second.serve()
        running.join()
        assert vmm.stop_reason() == ""
        assert second.finish().counters["events_resolved"] == pages
    finally:
        vmm.close()
        second.close()
        first.close()


def test_what_each_connection_to_a_remote_source_has_counted_is_kept_by_the_next_page_server(source: Source) -> None:
    spec = spec_for("uffd_wait", "shmem", specs.source(name="remote", seed=5, connections=3))
    spec = dataclasses.replace(spec, source=dataclasses.replace(spec.source, address=source.open(spec)))
    second = PageServer()
    with has_run(spec) as rig:
        assert rig.server.finish().counters["fetched_pages"] == PAGES
        try:
            held = second.take_over(spec, rig.vmms[0].address())
            for vmm in rig.vmms:
                vmm.hand_over(held)
            second.serve()
            assert second.finish().counters["fetched_pages"] == PAGES
        finally:
            second.close()
