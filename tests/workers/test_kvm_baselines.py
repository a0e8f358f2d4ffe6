"""The baselines on real vCPUs: a snapshot mapped or brought in before the first access, and no userfaultfd in either."""

from __future__ import annotations

import dataclasses

import pytest

from tests import needs, specs
from tests.workers.test_actors import PAGES, SPEC
from tests.workers.test_baselines import ABSENT, checked, on_a_snapshot, resolved
from workers.spec import StrategySpec

pytestmark = needs.KVM
RESTORED = dataclasses.replace(SPEC, engine="kvm", fault_mix=ABSENT, access=specs.access(read_share=0.5, passes=2))


@pytest.mark.parametrize("cache", ["warm", "cold"])
@pytest.mark.usefixtures("short_path")
def test_a_guest_runs_on_a_private_mapping_of_the_snapshot_and_its_first_touches_are_the_kernels(cache: str) -> None:
    report, reports = checked(dataclasses.replace(on_a_snapshot(RESTORED, cache), vcpus_per_vmm=2))
    assert resolved(reports) == PAGES
    assert report.counters["events"] == 0
    assert [(row["faults"], row["accesses"]) for one in reports for row in one.vcpus] == [(PAGES // 4, PAGES // 2)] * 4
    assert sum(one.counters["trips"] for one in reports) == 0


@pytest.mark.parametrize("memory", ["shmem", "anon"])
def test_eager_maps_everything_before_a_guest_touches_it_and_the_guests_own_stamps_say_when(memory: str) -> None:
    spec = dataclasses.replace(
        RESTORED,
        strategy=StrategySpec("eager", {"populate_pages": 100}),
        memory=specs.memory(memory, PAGES * 4096, 4096),
        vcpus_per_vmm=4,
    )
    report, [vmm] = checked(spec)
    assert resolved([vmm]) == PAGES
    assert report.counters["fetched_pages"] == PAGES
    assert [row["faults"] for row in vmm.vcpus] == [0, 0, 0, 0]
    marks = [mark for row in vmm.vcpus for mark in zip(row["mark_ns"], row["mark_accesses"], strict=True)]
    brought = max(at for at, done in marks if done == 0)
    assert min(at for at, done in marks if done) >= brought
    assert all(row["mark_accesses"][-1] == PAGES // 4 and len(row["pass_end_ns"]) == 2 for row in vmm.vcpus)
