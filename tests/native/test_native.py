"""The native tests as part of `make test`: on the real kernel, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.native.run_native import build, environment
from workers import _native

NODES = Path("/sys/devices/system/node/has_memory")


def reasons_to_skip() -> set[str]:
    """What this machine lacks, in the words of the tests that need it."""
    nodes = NODES.read_text().strip() if NODES.exists() else ""
    invariant = _native.clock()["source"] != "clock_gettime"
    lacks = {
        "this kernel has no NUMA nodes": not nodes,
        "one NUMA node": not re.search("[-,]", nodes),
        "/dev/kvm cannot be used": not os.access("/dev/kvm", os.R_OK | os.W_OK),
        "this host has an invariant counter": invariant,
        "no invariant counter, so a guest has no stamps of its own": not invariant,
        "this kernel cannot poison pages (UFFDIO_POISON is Linux 6.6)": "POISON" not in _native.probe_userfaultfd()["features"],
    }
    return {reason for reason, lacked in lacks.items() if lacked}


@pytest.mark.timeout(600)
def test_every_native_test_passes() -> None:
    program = str(build("address,undefined"))
    done = subprocess.run([program], env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert " 0 failed" in done.stdout
    assert set(re.findall(r"^SKIPPED .*\n  (.*)$", done.stdout, re.MULTILINE)) <= reasons_to_skip(), done.stdout
