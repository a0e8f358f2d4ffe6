"""Processes of the rig are killed at random moments, by the signal that no process sees coming."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

from tests.e2e import events, processes
from tests.e2e.conftest import Start
from tests.e2e.stored import of_every_run, rows
from tests.wait import wait_for

SLOW = ("access.rate_per_s=100", "memory.region_mib=4", "cluster.exclusive=false")
"""A measured phase of 3 to 10 seconds, by its open loop: a busy machine does not shorten it."""


def kill_while_it_runs(driver: subprocess.Popen[str], kind: str, times: int, between_s: float) -> int:
    """Kill one actor of a class again and again; how often it was there to be killed."""
    killed, chance = 0, random.Random(3)
    while killed < times and driver.poll() is None:
        time.sleep(chance.uniform(0.1, between_s))
        found = processes.actors(driver.pid, kind)
        if found and processes.kill(chance.choice(found)):
            killed += 1
            wait_for(lambda gone=found: processes.actors(driver.pid, kind) != gone, "its end")
    return killed


def test_page_servers_killed_at_random_moments_of_a_sweep_lose_no_run_and_no_page(tmp_path: Path, start: Start) -> None:
    driver = start("-m", "strategy=uffd_wait,no_slow_gup", "fault_mix=absent", "recover=true", "vcpus=2", "watchdog_s=60", *SLOW)
    events.measured_phase(tmp_path)
    killed = kill_while_it_runs(driver, "PageServer", 4, 1.5)
    _, err = driver.communicate(timeout=110)
    stored = rows(tmp_path)
    assert [row["status"] for row in stored] == ["ok", "ok"], (err, [row["reason"] for row in stored])
    assert all(row["pages_resolved"] == row["pages"] and row["wrong_words"] == 0 for row in stored)
    assert "raylet" not in err and "ActorDied" not in err, err
    assert killed >= 2 and sum(row["recoveries"] for row in stored) >= 1
    assert all(row["trusted"] is False for row in stored if row["recoveries"])


def test_without_recover_a_killed_page_server_ends_its_run_by_name_and_the_sweep_goes_on(tmp_path: Path, start: Start) -> None:
    driver = start("-m", "strategy=uffd_wait", "repeats=2", "vcpus=2", *SLOW)
    events.measured_phase(tmp_path)
    began = time.monotonic()
    assert processes.kill(processes.one_of(driver.pid, "PageServer"))
    events.first_run_stored(tmp_path, 40)
    assert time.monotonic() - began < 30
    driver.communicate(timeout=90)
    first, second = rows(tmp_path)
    assert (first["status"], first["recoveries"]) == ("crashed", None) and "the page server died" in first["reason"]
    assert second["status"] == "ok"


def test_a_killed_vmm_process_takes_only_its_own_vcpus_with_it_and_the_sweep_goes_on(tmp_path: Path, start: Start) -> None:
    driver = start("-m", "strategy=uffd_wait", "vcpus=3", "repeats=2", *SLOW)
    events.measured_phase(tmp_path)
    assert processes.kill(processes.one_of(driver.pid, "Vcpu"))
    _, err = driver.communicate(timeout=90)
    crashed, whole = rows(tmp_path)
    assert crashed["status"] == "crashed" and "VMM process" in crashed["reason"], err
    assert driver.returncode == 1 and whole["status"] == "ok"
    vcpus = [row for row in of_every_run(tmp_path, "vcpus") if row["run_id"] == crashed["run_id"]]
    assert len(vcpus) == 2 and len({vcpu["vmm"] for vcpu in vcpus}) == 2
    assert all(vcpu["wrong_words"] == 0 and vcpu["accesses"] in (341, 342) for vcpu in vcpus), "they did all they were asked to"


def test_a_killed_source_ends_its_run_by_name_after_bounded_retries_and_the_sweep_goes_on(tmp_path: Path, start: Start) -> None:
    asked = ("source=remote", "source.timeout_s=0.5", "source.retries=2", "fault_mix=absent", "repeats=2", "vcpus=2")
    driver = start("-m", "strategy=no_slow_gup", *asked, *SLOW)
    events.measured_phase(tmp_path)
    assert processes.kill(processes.one_of(driver.pid, "Source"))
    _, err = driver.communicate(timeout=100)
    ended = rows(tmp_path)
    assert len(ended) == 2, err
    first, second = ended
    assert first["status"] == "failed", (err, first["reason"])
    assert "the source at 127.0.0.1:" in first["reason"] and "2 retries" in first["reason"]
    assert second["status"] == "ok", second["reason"]
