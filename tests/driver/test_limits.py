"""Limits of control groups and processes: read, and refused by name before anything starts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate
from loadgen.errors import ConfigError
from loadgen.host.cgroups import Cgroups, Quota, Room
from loadgen.host.limits import Limits, Needs, shortages
from loadgen.host.probe import Host

MIB = 1 << 20


def filesystem(root: Path, files: dict[str, str]) -> Cgroups:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return Cgroups(root)


def test_version_2_groups_are_read_and_the_tightest_of_nested_ones_counts(tmp_path: Path) -> None:
    cg = "sys/fs/cgroup"
    groups = filesystem(
        tmp_path,
        {
            "proc/self/mountinfo": "30 1 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n",
            "proc/self/cgroup": "0::/outer/inner\n",
            f"{cg}/outer/memory.max": f"{512 * MIB}\n",
            f"{cg}/outer/memory.current": f"{500 * MIB}\n",
            f"{cg}/outer/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
            f"{cg}/outer/memory.events": "low 0\noom 3\noom_kill 2\n",
            f"{cg}/outer/inner/memory.max": "max\n",
            f"{cg}/outer/inner/memory.current": "1\n",
            f"{cg}/outer/inner/pids.max": "200\n",
            f"{cg}/outer/inner/pids.current": "30\n",
            f"{cg}/outer/cpu.max": "max 100000\n",
            f"{cg}/outer/inner/cpu.max": "50000 100000\n",
            f"{cg}/outer/inner/cpu.stat": "usage_usec 5\nthrottled_usec 1500000\n",
        },
    )
    memory = tmp_path / cg / "outer/memory.max"
    assert groups.memory() == Room(112 * MIB, 512 * MIB, str(memory))
    assert groups.oom_kills() == 2
    assert groups.limits_reached() == {str(memory): 3}
    assert groups.tasks() == Room(170, 200, str(tmp_path / cg / "outer/inner/pids.max"))
    assert groups.cpu_quota() == Quota(0.5, str(tmp_path / cg / "outer/inner/cpu.max"))
    assert groups.throttled_s() == 1.5


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    groups = Cgroups(tmp_path)
    assert (groups.memory(), groups.tasks(), groups.cpu_quota(), groups.oom_kills()) == (None, None, None, None)
    assert groups.throttled_s() == 0 and groups.limits_reached() == {}


def test_what_fits_is_not_refused() -> None:
    needs = Needs(64 * MIB, 2, 3, 1)
    assert list(shortages(needs, Limits())) == []
    assert list(shortages(needs, Limits(Room(1024 * MIB, 2048 * MIB, "m"), Room(300, 400, "p")))) == []


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (Limits(memory=Room(100 * MIB, 200 * MIB, "/g/memory.max")), "the control group leaves 100 of 200 MiB (/g/memory.max)"),
        (Limits(tasks=Room(40, 60, "/g/pids.max")), "the control group leaves 40 of 60 (/g/pids.max)"),
        (Limits(open_files=256), "a process may have 256: raise the hard "),
        (Limits(mappings=1000), "more mappings than a process may have (1000)"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_numbers(
    configure: Callable[..., DictConfig], host: Host, there: Limits, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        validate(configure("sweep_id=s"), dataclasses.replace(host, limits=there))
    [problem] = refused.value.problems
    assert words in problem


def probed_in(folder: Path, expression: str) -> str:
    """What a process in the group prints of its groups."""
    code = f"from loadgen.host.cgroups import Cgroups; groups = Cgroups(); print(({expression}))"
    return subprocess.run(
        ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$0" -c "$1"', sys.executable, code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def test_a_real_memory_limit_is_seen(group: Callable[[str, dict[str, str]], Path]) -> None:
    folder = group("memory", {"memory.limit_in_bytes": str(256 * MIB)})
    assert probed_in(folder, "groups.memory().limit, groups.memory().path") == (
        f"({256 * MIB}, '{folder}/memory.limit_in_bytes')"
    )


def test_a_real_limit_of_tasks_is_seen(group: Callable[[str, dict[str, str]], Path]) -> None:
    folder = group("pids", {"pids.max": "60"})
    assert probed_in(folder, "groups.tasks().limit, groups.tasks().left") == "(60, 59)"


def test_a_real_cpu_quota_is_seen_and_so_is_the_time_it_throttles(group: Callable[[str, dict[str, str]], Path]) -> None:
    folder = group("cpu", {"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "20000"})
    seen = probed_in(folder, "groups.cpu_quota().cpus, sum(range(30_000_000)) > 0, groups.throttled_s() > 0.01")
    assert seen == "(0.2, True, True)"


def test_a_process_that_the_kernel_kills_for_want_of_memory_is_counted_for_its_group(
    group: Callable[[str, dict[str, str]], Path],
) -> None:
    folder = group("memory", {"memory.limit_in_bytes": str(64 * MIB)})
    beside = Cgroups().oom_kills()
    hog = f"b = bytearray({200 * MIB}); b[::4096] = b'x' * len(b[::4096])"
    assert (
        subprocess.run(
            ["sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$0" -c "$1"', sys.executable, hog], check=False, timeout=60
        ).returncode
        == -9
    )
    killed = int(dict(line.split() for line in (folder / "memory.oom_control").read_text().splitlines())["oom_kill"])
    assert killed == 1
    seen = probed_in(folder, f"groups.oom_kills(), groups.limits_reached()['{folder}/memory.limit_in_bytes'] > 0")
    assert seen == "(1, True)"
    assert Cgroups().oom_kills() == beside, "it is none of a group beside it"
