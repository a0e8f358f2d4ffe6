"""What a test needs of the host. Where that is absent it is skipped by name, with what to do; in `.ci/run` it fails instead."""

from __future__ import annotations

import os
import shutil

import pytest

AS_ROOT = "needs root: run the tests as root"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason=AS_ROOT)
KVM = pytest.mark.skipif(
    not os.access("/dev/kvm", os.R_OK | os.W_OK),
    reason="/dev/kvm cannot be used: load the module kvm, and run the tests as root or in the group kvm",
)
TWO_CPUS = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs: run the tests where they may use both")
ENGINES = ("thread", pytest.param("kvm", marks=KVM))
"""Names of engines, to parametrize a test with."""
NO_SKIPS = "UFFD_LOADGEN_TESTS_SKIP_NOTHING"
"""Set in the environment, a skipped test is a failed one."""


def root() -> None:
    """Skip the test, in a fixture, where it does not run as root."""
    if os.geteuid() != 0:
        pytest.skip(AS_ROOT)


def programs(packages: str, *names: str, path: str | None = None) -> None:
    """Skip the test by name where a program is not installed; `packages`: Debian's, which have all of them."""
    missing = [name for name in names if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not found: apt-get install {packages}")
