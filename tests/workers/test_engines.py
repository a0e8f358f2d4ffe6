"""The same guest on each engine, through the actors' classes: what the records say is the same but for how exits arrive."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests import needs, specs
from tests.workers.test_actors import PAGES, SPEC, run
from workers import _native
from workers.page_server import PageServer
from workers.spec import PlacementSpec, StrategySpec
from workers.vcpu import Vcpu

EXITS = {"thread": {"signal"}, "kvm": {"efault", "memory_fault"}}


@pytest.mark.parametrize("engine", needs.ENGINES)
@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait"])
def test_every_engine_leaves_the_same_records_with_its_own_exits(engine: str, strategy: str) -> None:
    options = {"fault_around_pages": 1}
    spec = dataclasses.replace(SPEC, engine=engine, strategy=StrategySpec(strategy, options), vcpus=2, vcpus_per_vmm=1)
    server, vcpus = PageServer(), [Vcpu() for _ in range(2)]
    _, reports = run(spec, server, vcpus)
    assert sum(vcpu["pages_resolved"] for one in reports for vcpu in one.vcpus) == 768
    for vcpu, one in zip(vcpus, reports, strict=True):
        assert vcpu.verify()["wrong_words"] == 0
        assert one.vcpus[0]["wrong_words"] == 0
        _, _, faults = vcpu.fault_chunk(0, 1024)
        arrived = {_native.EXITS[code] for code in np.unique(faults["exit"])}
        assert arrived <= (EXITS[engine] if strategy == "no_uffd_wait" else {"none"})
        assert (faults["raised_ns"] <= faults["resumed_ns"]).all()
        vcpu.close()
    server.close()


@pytest.mark.parametrize("engine", needs.ENGINES)
@pytest.mark.parametrize("strategy", ["uffd_wait", "no_uffd_wait"])
@pytest.mark.parametrize(("vcpus", "vcpus_per_vmm"), [(2, 2), (16, 16), (16, 4)])
def test_every_engine_lets_overlapping_vcpus_resolve_each_page_once_for_each_mapping(
    engine: str, strategy: str, vcpus: int, vcpus_per_vmm: int
) -> None:
    spec = dataclasses.replace(
        SPEC,
        engine=engine,
        strategy=StrategySpec(strategy, {"fault_around_pages": 1}),
        access=specs.access(overlap=True),
        vcpus=vcpus,
        vcpus_per_vmm=vcpus_per_vmm,
        placement=PlacementSpec("none", ((),) * vcpus, ((),) * (vcpus // vcpus_per_vmm)),
    )
    server, vmms = PageServer(), [Vcpu() for _ in range(spec.vmms)]
    _, reports = run(spec, server, vmms)
    assert [sum(row["pages_resolved"] for row in one.vcpus) for one in reports] == [PAGES * 3 // 4] * spec.vmms
    rows = [row for one in reports for row in one.vcpus]
    assert all((row["accesses"], row["wrong_words"]) == (PAGES, 0) and row["recorded"] == row["faults"] for row in rows)
    for vmm in vmms:
        assert vmm.verify()["wrong_words"] == 0
        vmm.close()
    server.close()
