"""The command in control groups that leave it too little: refused with the numbers, or the run is marked or names it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import events
from tests.e2e.command import BIN, run_program
from tests.e2e.conftest import Start
from tests.e2e.stored import rows
from tests.wait import wait_for

Group = Callable[[str, dict[str, str]], Path]


def run_in(group: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`loadgen` in a control group."""
    enter = f'echo $$ > {group}/cgroup.procs && exec "$0" "$@"'
    done = run_program(folder, "sh", "-c", enter, str(BIN / "loadgen"), *arguments, timeout_s=110)
    deadline = time.monotonic() + 10
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    return done


@pytest.mark.parametrize(
    ("controller", "values", "words"),
    [
        ("pids", {"pids.max": "60"}, "the control group leaves"),
        ("pids", {"pids.max": "200"}, "of 200 (/sys/fs/cgroup/pids/"),
        ("memory", {"memory.limit_in_bytes": str(400 << 20)}, "of 400 MiB (/sys/fs/cgroup/memory/"),
    ],
)
def test_a_group_that_leaves_too_little_is_refused_before_anything_starts(
    tmp_path: Path, group: Group, controller: str, values: dict[str, str], words: str
) -> None:
    done = run_in(group(controller, values), tmp_path, "strategy=no_uffd_wait")
    assert done.returncode == 1
    assert words in done.stderr and "raise " in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs/dataset").exists()


def test_a_run_under_a_cpu_quota_names_it(tmp_path: Path, group: Group) -> None:
    half = group("cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "50000"})
    done = run_in(half, tmp_path, "strategy=uffd_wait", "vcpus=2", "memory.region_mib=256", "cluster.exclusive=false")
    [row] = rows(tmp_path)
    assert row["status"] == "ok", (done.stderr, row["reason"])
    assert row["cpu_quota"] == 0.5 and row["throttled_s"] > 0
    assert row["trusted"] is False and "throttled by a CPU quota" in row["distrust"]


HOG = """
import sys
from pathlib import Path
group, mib = Path(sys.argv[1]), 1 << 20
(group / "cgroup.procs").write_text("0")
held = []
while int(dict(line.split() for line in (group / "memory.oom_control").read_text().splitlines())["oom_kill"]) == 0:
    held.append(bytearray(b"x") * (8 * mib))
"""
"""Takes what its group has left until the kernel kills a process of it: workers of Ray's are its first choice."""


def test_a_process_that_the_kernel_kills_for_want_of_memory_ends_its_run_by_name(
    tmp_path: Path, group: Group, start: Start
) -> None:
    limited = group("memory", {"memory.limit_in_bytes": str(1 << 30)})
    driver = start("vcpus=1", "memory.region_mib=64", "access.rate_per_s=100", "cluster.exclusive=false")
    (limited / "cgroup.procs").write_text(str(driver.pid))  # and so will be all that it starts
    events.measured_phase(tmp_path)
    subprocess.run([sys.executable, "-c", HOG, str(limited)], check=True, timeout=100)
    _, err = driver.communicate(timeout=100)
    wait_for(lambda: not (limited / "cgroup.procs").read_text(), "the end of all that was started", 20)
    [row] = rows(tmp_path)
    assert row["status"] == "crashed", (err, row["reason"])
    assert f"killed for lack of memory: the control group reached its limit ({limited}/memory.limit_in_bytes)" in row["reason"]
    assert "VMM process" in row["reason"] or "page server" in row["reason"]
