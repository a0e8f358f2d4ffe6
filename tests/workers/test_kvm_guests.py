"""Real vCPUs meet every page state on every memory type: the lines of the conformance table that engine=kvm can run, on the real
kernel and with real guests. Only the way an exit arrives differs from a thread's."""

from __future__ import annotations

import dataclasses
from operator import attrgetter

import pytest

from tests import needs, specs
from tests.conformance.run import PAGES, expected, found, spec_of
from tests.conformance.table import ONE_BY_ONE, Row, rows
from tests.in_process import run_in_process
from workers.spec import RunSpec

pytestmark = [
    pytest.mark.usefixtures("huge_pages", "zram"),
    needs.KVM,
]
STRATEGIES = ("uffd_wait", "no_uffd_wait", ONE_BY_ONE, "null")
"""Those of the table that need no exit after fast GUP."""
ROW_ID = attrgetter("id")
ROWS = [row for row in rows() if row.strategy in STRATEGIES]
RACED = [row for row in ROWS if row.state != "hit" and row.strategy in STRATEGIES[:2]]


def on_kvm(spec: RunSpec, guest_mode: int = 0) -> RunSpec:
    """Where a guest of kernel mode is emulated, its own look at every word of 16 MiB takes a quarter of a minute: it looks at
    the word it touches, and pages are read in full after the run."""
    verify = "word" if guest_mode else spec.verify
    return dataclasses.replace(spec, engine="kvm", engine_options={"guest_mode": guest_mode}, verify=verify)


@pytest.mark.parametrize("guest_mode", [0, 1], ids=["user", "kernel"])
@pytest.mark.parametrize("row", ROWS, ids=ROW_ID)
def test_at_one_real_vcpu_the_counts_are_those_of_the_table(row: Row, guest_mode: int) -> None:
    assert found(run_in_process(on_kvm(spec_of(row.strategy, row.memory, row.state), guest_mode))) == expected(row)


@pytest.mark.parametrize("vcpus", [2, 16])
@pytest.mark.parametrize("row", RACED, ids=ROW_ID)
def test_real_vcpus_that_race_for_every_page_break_no_identity_and_read_no_wrong_word(row: Row, vcpus: int) -> None:
    pages = PAGES[row.memory]
    asked = spec_of(row.strategy, row.memory, row.state, vcpus, readers=2, fault_around_pages=2)
    ran = run_in_process(on_kvm(asked))
    assert (ran.stop_reason, ran.unprepared, ran.wrong_words, ran.broken) == ("", 0, 0, [])
    assert +ran.page_states == {row.ends: pages}
    if row.state.startswith("poisoned"):
        assert ran.vcpus["memory_errors"] == vcpus * pages  # each vCPU's own access is one


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait"])
@pytest.mark.parametrize("memory", ["shmem", "anon"])
def test_a_region_of_swapped_mapped_and_absent_pages_comes_back_whole_to_several_vms(memory: str, strategy: str) -> None:
    spec = spec_of(strategy, memory, "swapped", vcpus=4, readers=2)
    spec = dataclasses.replace(
        on_kvm(spec),
        memory=dataclasses.replace(spec.memory, region_bytes=1024 * 4096),
        fault_mix=specs.fault_mix(hit=0.25, absent=0.25, swapped=0.5),
        access=specs.access(overlap=True, read_share=0.5, passes=2),
        vcpus_per_vmm=4 if memory == "anon" else 2,  # anonymous memory has one mapping, so one VMM process
        record_capacity=2048,
    )
    ran = run_in_process(spec)
    assert (ran.stop_reason, ran.unprepared, ran.wrong_words, ran.broken) == ("", 0, 0, [])
    assert ran.prepared["swapped"] == 512
    assert +ran.page_states == {"resolved": 1024 * spec.vmms}
    assert ran.faults["swapped", "kernel" if memory == "anon" else SHMEM_OUTCOME[strategy]] >= 512


SHMEM_OUTCOME = {"uffd_wait": "waited", "no_uffd_wait": "resolved"}
"""Reclaim leaves the page of shared memory with a blank PTE: its minor fault comes again."""
