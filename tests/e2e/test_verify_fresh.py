"""A fresh, honest data set verifies without a complaint, whatever was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from results.verify.verification import verify
from tests import needs
from tests.e2e.in_session import Bench, InSession

pytestmark = pytest.mark.timeout(300)

ASKED = {
    "minor": (("null", "uffd_wait", "no_uffd_wait", "no_slow_gup"), ()),
    "poisoned": (("uffd_wait", "no_uffd_wait"), ("fault_mix=poisoned",)),
    "overlapping": (("uffd_wait", "no_uffd_wait"), ("fault_mix=absent", "access.overlap=true", "vcpus_per_vmm=2")),
    "several guests": (("no_slow_gup",), ("guests=2", "access.passes=2")),
    "open loop": (("uffd_wait", "no_slow_gup"), ("access.rate_per_s=5000",)),
    "balloon": (("uffd_wait", "no_uffd_wait"), ("disturb.balloon.rate_per_s=2000", "access.passes=3")),
    "kvm": (("uffd_wait", "no_uffd_wait"), ("engine=kvm",)),
}
"""Strategies, and what else is asked for, of a guest of two vCPUs."""


@pytest.mark.parametrize("what", [pytest.param(what, marks=needs.KVM if what == "kvm" else ()) for what in ASKED])
def test_a_fresh_data_set_verifies(session: InSession, tmp_path: Path, what: str) -> None:
    bench = Bench(session, tmp_path / "dataset")
    strategies, asked = ASKED[what]
    for strategy in strategies:
        row = bench.run(f"strategy={strategy}", "vcpus=2", "memory.region_mib=2", *asked)
        assert row["status"] == "ok", row["reason"]
    assert list(verify(bench.dataset)) == []
    if what == "poisoned":
        faults = bench.dataset.read("faults", ["kind", "delivered_ns", "installed_ns"])
        poisoned = np.array(faults["kind"].to_pylist()) == "poisoned"
        delivered, installed = (faults[name].fill_null(0).to_numpy()[poisoned] for name in ("delivered_ns", "installed_ns"))
        assert poisoned.any() and not ((installed != 0) & (installed < delivered)).any()
