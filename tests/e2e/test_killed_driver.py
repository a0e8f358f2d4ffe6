"""The driver itself is killed: what was stored is used, and nothing else of it is left."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from loadgen.host.swap_device import in_use
from results.store.dataset import DataSet
from tests import needs
from tests.e2e import events, processes
from tests.e2e.command import run, temporary
from tests.e2e.conftest import Start
from tests.e2e.stored import rows
from tests.wait import wait_for


def test_a_sweep_whose_driver_is_killed_goes_on_where_it_stopped(tmp_path: Path, start: Start) -> None:
    cells = ("-m", "strategy=uffd_wait,no_slow_gup", "repeats=2", "memory.region_mib=1", "access.rate_per_s=250")
    arguments = (*cells, "cluster.exclusive=false")
    driver = start(*arguments)
    events.first_run_stored(tmp_path, 100)
    running = " ".join(map(processes.command_line, processes.below(driver.pid)))
    assert "raylet" in running and not any(f"{service}.py" in running for service in ("monitor", "log_monitor", "dashboard"))
    time.sleep(random.Random(5).uniform(0, 1.5))
    driver.kill()
    driver.wait()
    before = {row["run_id"] for row in rows(tmp_path)}
    left = Path(temporary(), f"ulg-{driver.pid}-left")  # as if its keeper had been killed, too
    left.mkdir()
    done = run(tmp_path, "loadgen", "--json", *arguments, "resume=true")
    assert done.returncode == 0, done.stderr
    assert not left.exists(), "the next driver clears what a killed one has left"
    [started] = events.of_kind(done.stdout, "sweep_started")
    assert (started["stored"], started["runs"]) == (len(before), 4 - len(before))
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


@pytest.mark.usefixtures("host_alone")
@needs.ROOT
def test_a_killed_driver_leaves_nothing_behind_within_ten_seconds_no_swap_either(tmp_path: Path, start: Start) -> None:
    swap = in_use()
    driver = start("fault_mix=swapped", "swap=zram", "memory.region_mib=4", "access.think_us=100000", "cluster.exclusive=false")
    events.measured_phase(tmp_path)
    assert in_use() != swap
    [folder] = [one for one in processes.folders() if f"ulg-{driver.pid}-" in one]
    assert processes.memfds(folder)
    driver.send_signal(signal.SIGKILL)
    driver.wait()

    def nothing_left() -> bool:
        return not (processes.folders() or processes.using(folder) or in_use() != swap)

    wait_for(nothing_left, "the end of everything the driver had started", 10)
