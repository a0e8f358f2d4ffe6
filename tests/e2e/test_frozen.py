"""Processes of a run are stopped by SIGSTOP: the run ends by name within the watchdog's time, and the sweep goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e import events, processes
from tests.e2e.conftest import Start
from tests.e2e.stored import rows
from tests.wait import wait_for

SLOW = ("access.rate_per_s=100", "memory.region_mib=4", "cluster.exclusive=false", "watchdog_s=5", "repeats=2")
"""A measured phase of some seconds in the first of two runs."""
WITHIN_S = 5 + 10
"""The watchdog's time and a few seconds, on a machine that is busy with other tests."""


def stop_one(driver: subprocess.Popen[str], kind: str) -> int:
    """Stop an actor of a class, or the first that is in the method named behind it; its pid."""
    pid = processes.one_of(driver.pid, kind)
    os.kill(pid, signal.SIGSTOP)
    return pid


def ended_first(folder: Path, since: float) -> float:
    """Seconds until the first run was stored."""
    events.first_run_stored(folder, 60)
    return time.monotonic() - since


@pytest.mark.parametrize("fault_mix", ["absent", "minor"])
def test_a_stopped_page_server_ends_its_run_stuck_and_by_name_and_the_sweep_goes_on(
    tmp_path: Path, start: Start, fault_mix: str
) -> None:
    driver = start("-m", "strategy=uffd_wait", "vcpus=2", f"fault_mix={fault_mix}", *SLOW)
    events.measured_phase(tmp_path)
    pid = stop_one(driver, "PageServer")
    took_s = ended_first(tmp_path, time.monotonic())
    wait_for(lambda: not processes.command_line(pid), "its end", 10)
    _, err = driver.communicate(timeout=100)
    stuck, second = rows(tmp_path)
    assert stuck["status"] == "stuck", (err, stuck["reason"])
    assert f"the page server (pid {pid}) did not answer for" in stuck["reason"]
    assert "it is stopped by a signal (SIGSTOP)" in stuck["reason"]
    assert "VMM process" in stuck["reason"] and "vCPU" in stuck["reason"], "the reason comes from the VMM process"
    assert took_s < WITHIN_S
    assert second["status"] == "ok", second["reason"]


def test_a_stopped_vmm_process_is_named_and_killed_and_the_others_are_stored(tmp_path: Path, start: Start) -> None:
    driver = start("-m", "strategy=uffd_wait", "vcpus=2", *SLOW)
    events.measured_phase(tmp_path)
    pid = stop_one(driver, "Vcpu")
    began = time.monotonic()
    wait_for(lambda: not processes.command_line(pid), "its end", WITHIN_S)
    took_s = ended_first(tmp_path, began)
    _, err = driver.communicate(timeout=100)
    stuck, second = rows(tmp_path)
    assert stuck["status"] == "stuck" and f"(pid {pid}) did not answer for" in stuck["reason"], (err, stuck["reason"])
    assert took_s < WITHIN_S + 10, "the other one had its accesses to do"
    assert second["status"] == "ok", second["reason"]


def test_a_page_server_stopped_while_it_is_opened_ends_the_run_within_the_watchdogs_time(tmp_path: Path, start: Start) -> None:
    driver = start("-m", "strategy=uffd_wait", "memory.region_mib=1024", "cluster.exclusive=false", "watchdog_s=5", "repeats=2")
    pid = stop_one(driver, "PageServer.open")
    took_s = ended_first(tmp_path, time.monotonic())
    driver.send_signal(signal.SIGINT)
    _, err = driver.communicate(timeout=100)
    stuck = rows(tmp_path)[0]
    assert stuck["status"] == "stuck", (err, stuck["reason"])
    named = f"the page server (pid {pid}) "  # it did not answer, or answered before it stopped and made no progress since
    assert named + "did not answer for" in stuck["reason"] or named + "made no progress" in stuck["reason"]
    assert "in step" in stuck["reason"]
    assert took_s < WITHIN_S
