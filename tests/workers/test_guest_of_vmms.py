"""Several VMM processes of one guest: what is counted once for all of them, and where each one's vCPUs run."""

from __future__ import annotations

import dataclasses
import os

import pytest

from tests import needs, specs
from tests.workers.test_actors import PAGES, SPEC, run
from workers.page_server import PageServer
from workers.registry import pages_in_role
from workers.spec import PlacementSpec, StrategySpec
from workers.vcpu import Vcpu


@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait"])
def test_a_page_that_every_mapping_resolves_is_one_page_of_the_guest(strategy: str) -> None:
    spec = dataclasses.replace(
        SPEC,
        strategy=StrategySpec(strategy, {"fault_around_pages": 4}),
        access=specs.access(overlap=True),
        fault_mix=specs.fault_mix(minor=1.0),
    )
    server, vcpus = PageServer(), [Vcpu() for _ in range(4)]
    _, reports = run(spec, server, vcpus)
    rows = [row for one in reports for row in one.vcpus]
    assert sum(row["pages_resolved"] for row in rows) == 4 * PAGES
    assert sum(row["guest_pages_resolved"] for row in rows) == PAGES
    for vcpu in vcpus:
        vcpu.close()
    server.close()


@needs.TWO_CPUS
def test_the_vcpus_of_each_vmm_process_run_on_their_own_cpus() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    own = ((allowed[0],), (allowed[1],), (allowed[1],), (allowed[0],))
    spec = dataclasses.replace(SPEC, placement=PlacementSpec("pinned", own, ((),) * 4))
    server, vcpus = PageServer(), [Vcpu() for _ in range(4)]
    _, reports = run(spec, server, vcpus)
    assert [tuple(row["cpus"]) for one in reports for row in one.vcpus] == list(own)
    for vcpu in vcpus:
        vcpu.close()
    server.close()


def test_an_option_counts_for_requests_by_its_role_and_not_by_its_name() -> None:
    assert pages_in_role("uffd_wait", {"fault_around_pages": 7}, "fault_around", "populate") == 7
    assert pages_in_role("eager", {"populate_pages": 9}, "fault_around", "populate") == 9
    assert pages_in_role("eager", {"populate_pages": 9}, "fault_around") == 1
    assert pages_in_role("eager", {}, "populate") == 512
    assert pages_in_role("null", {}, "fault_around", "populate") == 1
