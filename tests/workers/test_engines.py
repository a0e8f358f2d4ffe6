"""The same guest on each engine, through the actors' classes: what the records say is the same but for how exits arrive."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from tests.workers.test_actors import SPEC, run
from workers import _native
from workers.page_server import PageServer
from workers.spec import StrategySpec
from workers.vcpu import Vcpu

KVM = pytest.param("kvm", marks=pytest.mark.skipif(not os.access("/dev/kvm", os.W_OK), reason="/dev/kvm cannot be used"))
EXITS = {"thread": {"signal"}, "kvm": {"efault", "memory_fault"}}


@pytest.mark.parametrize("engine", ["thread", KVM])
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
        _, faults = vcpu.fault_chunk(0, 1024)
        arrived = {_native.EXITS[code] for code in np.unique(faults["exit"])}
        assert arrived <= (EXITS[engine] if strategy == "no_uffd_wait" else {"none"})
        assert (faults["raised_ns"] <= faults["resumed_ns"]).all()
        vcpu.close()
    server.close()
