from __future__ import annotations

import os
from pathlib import Path

from tests.e2e.command import run


def test_the_doctor_says_what_this_host_can_do_and_how_to_get_the_rest(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen-doctor")
    assert done.returncode == 0, done.stderr
    assert "userfaultfd" in done.stdout and "device" in done.stdout
    assert "no page of it can be minor" in done.stdout
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        for access in ("page_table", "operand", "steal_time", "clock"):
            assert f"KVM's own access: {access}" in done.stdout
    if " 0 free" in done.stdout:
        assert "sysctl vm.nr_hugepages" in done.stdout


def test_the_report_command_says_what_is_in_a_data_set(tmp_path: Path) -> None:
    assert run(tmp_path, "loadgen", "strategy=no_uffd_wait", "memory.region_mib=1", "dataset=there").returncode == 0
    shown = run(tmp_path, "loadgen-report", "show", "there")
    assert shown.returncode == 0, shown.stderr
    assert "ok" in shown.stdout
    table = run(tmp_path, "loadgen-report", "table", "there")
    assert "no_uffd_wait" in table.stdout
    nothing = run(tmp_path, "loadgen-report", "show", "nowhere")
    assert nothing.returncode != 0 and "Traceback" not in nothing.stderr


def test_an_unknown_choice_lists_the_right_ones(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen", "strategy=sleepy")
    assert done.returncode == 1
    for name in ("no_slow_gup", "no_uffd_wait", "null", "uffd_wait"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_mistyped_key_is_refused_by_name(tmp_path: Path) -> None:
    for override in ("strategy.fault_arround_pages=2", "memory.region_gib=1", "vcpu=2"):
        done = run(tmp_path, "loadgen", override)
        assert done.returncode == 1
        assert override.split("=")[0].split(".")[-1] in done.stderr
        assert "Traceback" not in done.stderr


def test_a_data_set_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen", "dataset=/proc/dataset")
    assert done.returncode == 1
    assert "dataset=/proc/dataset" in done.stderr and "Traceback" not in done.stderr
