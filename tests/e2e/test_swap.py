"""Swap set up by the command, and a driver that is killed while pages are in it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from loadgen.swap_device import in_use
from tests.e2e.command import BIN, environment

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="swap is set up by root only"),
    pytest.mark.timeout(300),  # on a machine that is busy with something else
]


def test_a_driver_killed_in_the_middle_of_a_run_leaves_no_swap(tmp_path: Path) -> None:
    before = in_use()
    with subprocess.Popen(
        [str(BIN / "loadgen"), "fault_mix=swapped", "swap=zram", "memory.region_mib=4", "access.think_us=100000", "quiet=true"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as driver:
        deadline = time.monotonic() + 60
        while in_use() == before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert in_use() != before
        time.sleep(1.0)  # pages are in it by then, or on their way
        driver.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while in_use() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert in_use() == before
