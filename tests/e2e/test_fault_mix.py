"""Swapped and poisoned pages through the command: real swap, real poison, real ends of processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadgen.host.swap_device import in_use
from tests import needs
from tests.e2e.command import run
from tests.e2e.stored import rows

pytestmark = [
    pytest.mark.usefixtures("host_alone"),
    needs.ROOT,
    pytest.mark.timeout(300),  # on a machine that is busy with something else
]
PAGES = 512


def test_swapped_pages_of_several_vmm_processes_are_proven_and_brought_back_and_the_swap_is_gone(tmp_path: Path) -> None:
    before = in_use()
    ended = run(
        tmp_path,
        "loadgen",
        "-m",
        "strategy=uffd_wait,no_slow_gup",
        "fault_mix=swapped,postcopy",
        "swap=zram",
        "memory.region_mib=2",
        "vcpus=2",
        "quiet=true",
        timeout_s=280,
    )
    assert ended.returncode == 0, ended.stderr
    found = rows(tmp_path)
    assert [row["status"] for row in found] == ["ok"] * 4
    for row in found:
        assert (row["swap"], row["unprepared"], row["wrong_words"]) == ("zram", 0, 0)
        assert row["swapped_pages"] == (PAGES if row["fault_mix"] == "swapped" else round(PAGES * 0.09))
        if row["strategy"] == "no_slow_gup":
            assert row["populate_ok"] == row["populate_waits"] == row["swapped_pages"]
    assert in_use() == before


def test_a_memory_error_that_crashes_the_guest_is_named_with_its_page_and_the_sweep_goes_on(tmp_path: Path) -> None:
    ended = run(
        tmp_path,
        "loadgen",
        "-m",
        "on_memory_error=crash,inject",
        "fault_mix=poisoned",
        "fault_mix.poisoned_at=source,resolved",
        "memory.region_mib=2",
        "access=sequential",
        "quiet=true",
        timeout_s=280,
    )
    assert ended.returncode == 1
    cells = [("crash", "source"), ("crash", "resolved"), ("inject", "source"), ("inject", "resolved")]
    found = sorted(rows(tmp_path), key=lambda row: cells.index((row["on_memory_error"], row["poisoned_at"])))
    assert [row["status"] for row in found] == ["crashed", "crashed", "ok", "ok"]
    for row in found[:2]:
        reason = str(row["reason"])
        assert reason.startswith("memory error: page ")
        assert reason.endswith("is poisoned, and vCPU 0 ended its VMM process for it (on_memory_error=crash)")
    for row, where in zip(found[2:], ("source", "resolved"), strict=True):
        assert (row["poisoned_at"], row["memory_errors"], row["wrong_words"]) == (where, row["poisoned_pages"], 0)
        assert row["poisoned_pages"] == 26
