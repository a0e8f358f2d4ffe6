"""Processes of the rig are killed at random moments, by the signal that no process sees coming."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from results.store import DataSet
from tests.e2e import processes
from tests.e2e.command import run
from tests.e2e.conftest import Start

SLOW = ("access.rate_per_s=150", "memory.region_mib=4", "cluster.exclusive=false")
"""A measured phase of some seconds: there is time to kill somebody in it."""


def rows(folder: Path) -> list[dict[str, Any]]:
    stored = DataSet.existing(str(folder / "outputs/dataset")).read("runs").to_pylist()
    return sorted(stored, key=lambda row: (row["repeat"], row["run_id"]))


def kill_while_it_runs(driver: subprocess.Popen[str], kind: str, times: int, between_s: float) -> int:
    """Kill one actor of a class again and again; how often it was there to be killed."""
    killed, chance = 0, random.Random(3)
    while killed < times and driver.poll() is None:
        time.sleep(chance.uniform(0.1, between_s))
        found = processes.actors(driver.pid, kind)
        if found and processes.kill(chance.choice(found)):
            killed += 1
            processes.wait_for(lambda gone=found: processes.actors(driver.pid, kind) != gone, "its end")
    return killed


def test_page_servers_killed_at_random_moments_of_a_sweep_lose_no_run_and_no_page(tmp_path: Path, start: Start) -> None:
    driver = start("-m", "strategy=uffd_wait,no_slow_gup", "fault_mix=absent", "recover=true", "vcpus=2", "watchdog_s=60", *SLOW)
    processes.wait_for(lambda: processes.actors(driver.pid, "Vcpu.run"), "the measured phase", 100)
    killed = kill_while_it_runs(driver, "PageServer", 4, 1.5)
    _, err = driver.communicate(timeout=110)
    stored = rows(tmp_path)
    assert [row["status"] for row in stored] == ["ok", "ok"], (err, [row["reason"] for row in stored])
    assert all(row["pages_resolved"] == row["pages"] and row["wrong_words"] == 0 for row in stored)
    assert killed >= 2 and sum(row["recoveries"] for row in stored) >= 1
    assert all(row["trusted"] is False for row in stored if row["recoveries"])


def test_without_recover_a_killed_page_server_ends_its_run_by_name_and_the_sweep_goes_on(tmp_path: Path, start: Start) -> None:
    driver = start("-m", "strategy=uffd_wait", "repeats=2", "vcpus=2", *SLOW)
    processes.wait_for(lambda: processes.actors(driver.pid, "Vcpu.run"), "the measured phase", 100)
    began = time.monotonic()
    assert processes.kill(processes.actors(driver.pid, "PageServer")[0])
    processes.wait_for(lambda: (tmp_path / "outputs/dataset/runs").exists() and len(rows(tmp_path)) >= 1, "the run's end", 40)
    assert time.monotonic() - began < 30
    driver.communicate(timeout=90)
    first, second = rows(tmp_path)
    assert (first["status"], first["recoveries"]) == ("crashed", None) and "the page server died" in first["reason"]
    assert second["status"] == "ok"


def test_a_killed_vmm_process_takes_only_its_own_vcpus_with_it(tmp_path: Path, start: Start) -> None:
    driver = start("strategy=uffd_wait", "vcpus=3", *SLOW)
    processes.wait_for(lambda: len(processes.actors(driver.pid, "Vcpu.run")) == 3, "three VMM processes", 100)
    time.sleep(0.5)
    assert processes.kill(processes.actors(driver.pid, "Vcpu.run")[0])
    _, err = driver.communicate(timeout=90)
    [row] = rows(tmp_path)
    assert row["status"] == "crashed" and "VMM process" in row["reason"], err
    vcpus = DataSet.existing(str(tmp_path / "outputs/dataset")).read("vcpus").to_pylist()
    assert len(vcpus) == 2 and len({vcpu["vmm"] for vcpu in vcpus}) == 2
    assert all(vcpu["wrong_words"] == 0 and vcpu["accesses"] in (341, 342) for vcpu in vcpus), "they did all they were asked to"


def test_a_sweep_whose_driver_is_killed_goes_on_where_it_stopped(tmp_path: Path, start: Start) -> None:
    arguments = ("-m", "strategy=uffd_wait,no_slow_gup", "repeats=2", "memory.region_mib=1", "access.rate_per_s=250")
    driver = start(*arguments)
    stored = tmp_path / "outputs/dataset/runs"
    processes.wait_for(lambda: stored.exists() and len(list(stored.rglob("*.parquet"))) >= 1, "the first run")
    time.sleep(random.Random(5).uniform(0, 1.5))
    driver.kill()
    driver.wait()
    before = {row["run_id"] for row in rows(tmp_path)}
    done = run(tmp_path, "loadgen", *arguments, "resume=true")
    assert done.returncode == 0, done.stderr
    assert f"{len(before)} of 4 runs are stored" in done.stderr
    dataset = DataSet.existing(str(tmp_path / "outputs/dataset"))
    after = rows(tmp_path)
    assert before < {row["run_id"] for row in after}
    assert len({row["sweep_id"] for row in after}) == len({row["command"] for row in after}) == 1
    assert sorted((row["repeat"], row["strategy"]) for row in after) == [
        (repeat, strategy) for repeat in (0, 1) for strategy in ("no_slow_gup", "uffd_wait")
    ]
    assert dataset.unfinished() == []
    assert {row["run_id"] for row in dataset.read("vcpus").to_pylist()} == {row["run_id"] for row in after}
    again = run(tmp_path, "loadgen", *arguments, "resume=true")
    assert again.returncode == 0 and len(rows(tmp_path)) == 4, "a complete sweep is not repeated"


def test_a_killed_driver_leaves_nothing_behind_within_ten_seconds(tmp_path: Path, start: Start) -> None:
    folders, memfds = processes.folders(), processes.memfds()
    driver = start("strategy=uffd_wait", "access.rate_per_s=50", "memory.region_mib=4")
    processes.wait_for(lambda: processes.actors(driver.pid, "Vcpu"), "a VMM process", 100)
    time.sleep(1)
    [folder] = [one for one in processes.folders() - folders if f"ulg-{driver.pid}-" in one]
    driver.send_signal(signal.SIGKILL)
    driver.wait()

    def nothing_left() -> bool:
        return not (processes.folders() - folders or processes.memfds() - memfds or processes.told_of(folder))

    processes.wait_for(nothing_left, "the end of everything the driver had started", 10)


def test_a_killed_source_ends_its_run_by_name_after_bounded_retries_and_the_sweep_goes_on(tmp_path: Path, start: Start) -> None:
    asked = ("source=remote", "source.timeout_s=0.5", "source.retries=2", "fault_mix=absent", "repeats=2", "vcpus=2")
    driver = start("-m", "strategy=no_slow_gup", *asked, *SLOW)
    processes.wait_for(lambda: processes.actors(driver.pid, "Vcpu.run"), "the measured phase", 100)
    assert processes.kill(processes.actors(driver.pid, "Source")[0])
    _, err = driver.communicate(timeout=100)
    first, second = rows(tmp_path)
    assert first["status"] == "failed", (err, first["reason"])
    assert "the source at 127.0.0.1:" in first["reason"] and "2 retries" in first["reason"]
    assert second["status"] == "ok", second["reason"]
