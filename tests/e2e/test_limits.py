"""The command in control groups that leave it too little: refused with the numbers, or the run is marked."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.command import BIN, run_program
from tests.e2e.stored import rows

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
