"""Limits that a container, a small host or a filter has, set for real on a child: the command names them and starts nothing."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import needs
from tests.seccomp import refusing

MIB = 1 << 20
BIN = Path(sys.executable).parent
Group = Callable[[str, dict[str, str]], Path]


def said(folder: Path, *command: str, before: Callable[[], None] | None = None) -> tuple[int, str]:
    """Exit status and everything that the command printed; `before`: called in the child before it starts."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        preexec_fn=before,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def enter(group: Path) -> Callable[[], None]:
    return lambda: (group / "cgroup.procs").write_text(str(os.getpid())) and None


def evaluated(code: str, before: Callable[[], None]) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True, preexec_fn=before
    ).stdout.strip()


def test_of_nested_memory_groups_the_tightest_counts(group: Group) -> None:
    outer = group("memory", {"memory.limit_in_bytes": str(256 * MIB)})
    inner = outer / "inner"
    inner.mkdir()
    try:
        (inner / "memory.limit_in_bytes").write_text(str(1024 * MIB))
        code = "from loadgen.host.cgroups import Cgroups; room = Cgroups().memory(); print(room.limit, room.path)"
        assert evaluated(code, enter(inner)) == f"{256 * MIB} {outer}/memory.limit_in_bytes"
    finally:
        inner.rmdir()


@needs.TWO_CPUS
def test_cpus_outside_the_cpuset_cannot_be_asked_for(tmp_path: Path, group: Group) -> None:
    first = str(min(os.sched_getaffinity(0)))
    one = group("cpuset", {"cpuset.cpus": first, "cpuset.mems": "0"})
    assert said(tmp_path, "loadgen", "dry_run=true", before=enter(one))[0] == 0
    status, text = said(tmp_path, "loadgen", "cores=2", "dry_run=true", before=enter(one))
    assert status == 1 and "cores=2, but this process may use 1 CPUs: use at most 1" in text


def open_files(soft: int, hard: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_hard_limit_of_open_files_is_held_against_the_userfaultfds(tmp_path: Path) -> None:
    few = open_files(512, 1200)
    status, text = said(tmp_path, "loadgen", "vcpus=8", "uffds_per_vmm=16", "memory.region_mib=16", "dry_run=true", before=few)
    assert status == 1
    assert "128 userfaultfds need 1536 open files, and a process may have 1200: raise the hard limit (`ulimit -Hn`)" in text


def test_a_soft_limit_of_open_files_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    few = open_files(256, 4096)
    assert said(tmp_path, "loadgen", "vcpus=8", "uffds_per_vmm=16", "memory.region_mib=16", "dry_run=true", before=few)[0] == 0
    code = "import resource; from loadgen.host.limits import raise_open_files; raise_open_files(); "
    assert evaluated(code + "print(resource.getrlimit(resource.RLIMIT_NOFILE))", few) == "(4096, 4096)"


def test_more_mappings_than_the_kernel_allows_are_refused(tmp_path: Path) -> None:
    allowed = int(Path("/proc/sys/vm/max_map_count").read_text())
    shards = allowed // 2
    region = f"memory.region_mib={-(-shards * 4096 // MIB)}"
    status, text = said(tmp_path, "loadgen", f"uffds_per_vmm={shards}", region, "dry_run=true")
    assert status == 1
    assert "sysctl vm.max_map_count=" in text or "is too large" in text


@needs.ROOT
def test_rays_object_store_fits_into_a_small_shared_memory() -> None:
    code = "from loadgen.host.limits import object_store_bytes; print(object_store_bytes() >> 20)"
    script = 'mount -t tmpfs -o size=200m none /dev/shm && exec "$0" -c "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, sys.executable, code], capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout == "100\n"


@needs.ROOT
def test_a_shared_memory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o ro none /dev/shm && exec "$0" dry_run=true'
    command = ["unshare", "--mount", "sh", "-c", script, str(BIN / "loadgen")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith("Ray keeps its object store there: mount a tmpfs on it that this user may write to\n")


@pytest.mark.parametrize("command", [("loadgen", "dry_run=true"), ("loadgen-doctor",)])
def test_a_seccomp_filter_is_named_as_what_refuses_a_userfaultfd(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The filter refuses the system call, and the ioctl that /dev/userfaultfd makes one by: a filter sees no path."""
    status, text = said(tmp_path, *command, before=refusing())
    assert status == 1
    assert "a seccomp filter refuses the system call" in text and "--security-opt seccomp=PROFILE" in text
    assert "run as root" not in text
