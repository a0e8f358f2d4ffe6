"""A fresh, honest data set verifies without a complaint, whatever was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from results.store.dataset import DataSet
from tests import needs
from tests.e2e.command import run

pytestmark = pytest.mark.timeout(300)

ASKED = {
    "minor": ("strategy=null,uffd_wait,no_uffd_wait,no_slow_gup", "vcpus=2"),
    "poisoned": ("fault_mix=poisoned", "strategy=uffd_wait,no_uffd_wait", "vcpus=2"),
    "overlapping": ("fault_mix=absent", "access.overlap=true", "vcpus_per_vmm=2", "vcpus=2", "strategy=uffd_wait,no_uffd_wait"),
    "several guests": ("guests=2", "vcpus=2", "access.passes=2", "strategy=no_slow_gup"),
    "open loop": ("access.rate_per_s=5000", "vcpus=2", "strategy=uffd_wait,no_slow_gup"),
    "balloon": ("disturb.balloon.rate_per_s=2000", "access.passes=3", "vcpus=2", "strategy=uffd_wait,no_uffd_wait"),
    "kvm": ("engine=kvm", "strategy=uffd_wait,no_uffd_wait", "vcpus=2"),
}


@pytest.mark.parametrize("what", [pytest.param(what, marks=needs.KVM if what == "kvm" else ()) for what in ASKED])
def test_a_fresh_data_set_verifies(tmp_path: Path, what: str) -> None:
    done = run(tmp_path, "loadgen", "-m", *ASKED[what], "memory.region_mib=2", "quiet=true", timeout_s=280)
    assert done.returncode == 0, done.stderr
    verified = run(tmp_path, "loadgen-report", "verify", "outputs/dataset")
    assert (verified.returncode, verified.stdout.splitlines()[-1].partition(", ")[2]) == (0, "everything agrees"), verified.stdout
    if what == "poisoned":
        faults = DataSet.existing(str(tmp_path / "outputs/dataset")).read("faults", ["kind", "delivered_ns", "installed_ns"])
        poisoned = np.array(faults["kind"].to_pylist()) == "poisoned"
        delivered, installed = (faults[name].fill_null(0).to_numpy()[poisoned] for name in ("delivered_ns", "installed_ns"))
        assert poisoned.any() and not ((installed != 0) & (installed < delivered)).any()
