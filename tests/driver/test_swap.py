"""Swap of the runs' own: how much, where it is refused, and that nothing of it outlives the driver."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from loadgen.config.validate import validate, validate_cells
from loadgen.errors import ConfigError
from loadgen.host.changes import HostChangeError, HostChanges
from loadgen.host.probe import Host
from loadgen.host.swap_device import in_use
from loadgen.plan.plan import plan_run
from tests import needs
from workers.spec import NO_SWAP, SwapSpec

MIB = 1 << 20
SIZE = 16 * MIB
Configure = Callable[..., DictConfig]

pytestmark = pytest.mark.usefixtures("host_alone")


def problems(cfg: DictConfig, host: Host) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(cfg, host)
        validate_cells([cfg])
    return list(caught.value.problems)


def test_swap_is_as_large_as_the_swapped_pages_and_an_eighth_more(configure: Configure, host: Host) -> None:
    spec = plan_run(configure("swap=zram", "fault_mix=swapped", "memory.region_mib=64", "sweep_id=s"), host).spec
    assert spec.swap == SwapSpec("zram", (64 + 8 + 4) * MIB, "")
    none = plan_run(configure("swap=zram", "fault_mix=minor", "sweep_id=s"), host).spec
    assert none.swap == NO_SWAP


def test_pages_on_zram_still_count_as_memory_the_run_needs(configure: Configure, host: Host) -> None:
    common = ("fault_mix=swapped", "memory.region_mib=64", "sweep_id=s")
    on_zram, on_disk = (plan_run(configure(f"swap={kind}", *common), host) for kind in ("zram", "file"))
    assert on_zram.memory_bytes - on_disk.memory_bytes == 64 * MIB


def test_swapped_pages_without_swap_are_refused_with_the_remedy(configure: Configure, host: Host) -> None:
    assert problems(configure("fault_mix=swapped", "sweep_id=s"), host) == [
        "fault_mix.swapped=1 needs 64 MiB of swap and this host has 0 MiB free: use swap=zram or swap=file (as root), "
        "or another fault_mix"
    ]
    validate(configure("fault_mix=swapped", "sweep_id=s"), dataclasses.replace(host, swap_free_bytes=64 * MIB))


def test_what_speaks_against_a_swap_is_said_before_anything_starts(configure: Configure, host: Host) -> None:
    swapped = ("fault_mix=swapped", "memory.region_mib=64", "sweep_id=s")
    cases = {
        ("swap=zram", "swap.mib=32"): "swap.mib=32 is too small for the 64 MiB that fault_mix.swapped=1 swaps out: use at least "
        "68, or 0 for as much as is needed",
        ("swap=file", "swap.folder=/nowhere"): "swap.folder=/nowhere cannot be used: No such file or directory; use a folder on "
        "a disk",
    }
    for overrides, text in cases.items():
        assert text in problems(configure(*swapped, *overrides), host)
    assert problems(configure("swap=none", "swap.mib=9"), host) == [
        "swap.mib=9 is read only with swap=zram or swap=file: add that, or leave swap.mib out"
    ]
    assert problems(configure(*swapped, "swap=zram"), dataclasses.replace(host, root=False, zram=False)) == [
        "swap=zram is set up by root only: run as root, or use swap=none on a host with swap of its own",
        "swap=zram needs a zram device and this host has none free: `modprobe zram`, or use swap=file",
    ]


def ours(before: list[str]) -> list[str]:
    return [path for path in in_use() if path not in before]


@needs.ROOT
@pytest.mark.parametrize("kind", ["zram", "file"])
def test_swap_is_on_while_it_is_kept_and_off_afterwards(kind: str, tmp_path: Path) -> None:
    before, changes = in_use(), HostChanges()
    folder = str(tmp_path) if kind == "file" else ""
    try:
        changes.keep(SwapSpec(kind, SIZE, folder))
        assert len(ours(before)) == 1
        [path] = ours(before)
        changes.keep(SwapSpec(kind, SIZE // 2, folder))
        assert ours(before) == [path]  # a run that needs less uses it again
        changes.keep(SwapSpec(kind, 2 * SIZE, folder))
        [path] = ours(before)
        [kib] = [int(line.split()[2]) for line in Path("/proc/swaps").read_text().splitlines() if line.startswith(path)]
        assert kib << 10 > SIZE  # one that needs more gets another
    finally:
        changes.close()
    assert ours(before) == []
    assert not Path(path).exists()


@needs.ROOT
def test_a_swap_that_the_kernel_refuses_says_why_and_what_to_do() -> None:
    before, changes = in_use(), HostChanges()
    with pytest.raises(HostChangeError) as caught:
        changes.keep(SwapSpec("file", SIZE, "/dev/shm"))
    assert "swap=file of 16 MiB cannot be set up: swapon: Invalid argument (/dev/shm/uffd-loadgen-swap-" in str(caught.value)
    assert str(caught.value).endswith("use swap=zram, or a swap.folder on a file system that takes swap files (ext4, xfs)")
    assert ours(before) == []
    assert list(Path("/dev/shm").glob("uffd-loadgen-swap-*")) == []


@needs.ROOT
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_swap_is_off_within_ten_seconds_of_its_drivers_end_however_it_went(how: signal.Signals) -> None:
    before = in_use()
    script = (
        "import time; from loadgen.host.changes import HostChanges; from workers.spec import SwapSpec\n"
        f"HostChanges().keep(SwapSpec('zram', {SIZE}, '')); print('kept', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == "kept\n"
        assert len(ours(before)) == 1
        driver.send_signal(how)
        driver.wait()
    deadline = time.monotonic() + 10
    while ours(before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ours(before) == []


def test_the_kind_named_by_rest_takes_what_the_other_shares_leave(configure: Configure, host: Host) -> None:
    overrides = ("fault_mix.minor=0", "fault_mix.swapped=0.25", "fault_mix.rest=absent", "sweep_id=s")
    spec = plan_run(configure(*overrides), host).spec
    assert (spec.fault_mix.swapped, spec.fault_mix.absent, spec.fault_mix.minor) == (0.25, 0.75, 0.0)
    assert problems(configure("fault_mix.rest=other", "sweep_id=s"), host) == [
        "fault_mix.rest=other is unknown: use one of none, hit, minor, absent, swapped, poisoned"
    ]
    too_much = ("fault_mix.minor=0.9", "fault_mix.swapped=0.2", "fault_mix.rest=absent", "swap=zram", "sweep_id=s")
    assert any("the shares of fault_mix sum to 1.1, not 1" in problem for problem in problems(configure(*too_much), host))
