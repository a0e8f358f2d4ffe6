"""Guests over a network: three Ray nodes, each on a machine of the test's own, on one bridge; nodes are lost and cut off."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cluster.machines import Machine, Network, bridged, require_machines
from tests.cluster.ray_cluster import CONNECT, Place, RayCluster, ray_cluster, short_folder
from tests.cluster.stored import assert_three_guests_on_three_hosts
from tests.e2e.command import BIN, environment
from tests.e2e.processes import below, kill
from tests.e2e.stored import rows
from tests.wait import wait_for
from workers.host_lock import LOCK_FILE, HostLock

pytestmark = pytest.mark.timeout(300)  # several Rays start

QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""Ray gives a silent node up after seconds; without these settings on every node, after a minute."""
DEADMAN_S = 6
BOUND_S = 45
"""From a node's end to that of its guests' run, the rest of the other guests' included."""
PLACED_BOUND_S = 30
"""From a node's end to that of a run that would have had a guest on it: half of what a node without room is given."""
ACTORS = ("ray::Vcpu", "ray::PageServer", "ray::Agent")
SLOW = ("memory.region_mib=4", "access.rate_per_s=150")
"""A measured phase of some seconds: there is time to lose a node in it."""


@dataclass
class Driver:
    """`loadgen --json` on the first machine."""

    process: subprocess.Popen[str]

    def next(self, event: str) -> dict[str, Any]:
        """The next event of this kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            happened: dict[str, Any] = json.loads(line)
            if happened["event"] == event:
                return happened
        raise AssertionError(f"no {event}: {self.process.stderr and self.process.stderr.read()}")


class Cluster:
    """Ray on the machines of a network: the head and the drivers on node0, beside it node1, and node2, which tests lose."""

    def __init__(self, network: Network, ray: RayCluster) -> None:
        self._network, self._ray = network, ray
        self._lost = False

    @property
    def node2(self) -> Machine:
        """The machine that tests lose."""
        return self._network.machines["node2"]

    def lose(self) -> float:
        """node2 loses its power; when (monotonic clock)."""
        self._lost = True
        self.node2.end()
        return time.monotonic()

    def cut_off(self) -> float:
        """node2 is cut off from the others, and lives on; when (monotonic clock)."""
        self._lost = True
        self._network.cut("node2")
        return time.monotonic()

    def mend(self) -> None:
        """Another machine is node2 when it was lost. Ray has noticed: the sweep has ended without it."""
        if self._lost:
            self.node2.end()
            self._ray.add(place(self._network.add("node2")))
            self._ray.wait()
            self._lost = False

    @contextlib.contextmanager
    def driver(self, folder: Path, *arguments: str) -> Iterator[Driver]:
        """A driver in `folder`."""
        existing = ("cluster=existing", f"cluster.address={self._ray.address}", f"cluster.deadman_s={DEADMAN_S}")
        asked = (*existing, "measure_s=0", *arguments)
        command = self._network.machines["node0"].command(str(BIN / "loadgen"), "--json", *asked)
        env = environment() | CONNECT | QUICK_TO_NOTICE
        with subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield Driver(process)
            finally:
                if process.poll() is None:
                    for pid in below(process.pid):
                        kill(pid)


def place(machine: Machine) -> Place:
    """A machine as a place of a node, which ends with it."""
    return Place(machine.command(), machine.address, end=lambda _: machine.end())


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    require_machines()
    with short_folder() as folder, bridged("node0", "node1", "node2") as network:
        places = list(map(place, network.machines.values()))
        with ray_cluster(folder, places, "--include-dashboard=false", settings=QUICK_TO_NOTICE) as ray:
            yield Cluster(network, ray)


@pytest.fixture
def cluster(nodes: Cluster) -> Cluster:
    """With all of its nodes."""
    nodes.mend()
    return nodes


def assert_run_and_sweep_end(driver: Driver, lost: float) -> None:
    """The run ends in time after `lost` (monotonic clock), and the sweep after it; not everything was ok."""
    driver.next("run_ended")
    assert time.monotonic() - lost < BOUND_S
    driver.next("sweep_ended")
    assert driver.process.wait(timeout=60) == 1


def assert_went_on_without(node: str, stored: list[dict[str, Any]]) -> None:
    """Run 1 lost its guest on `node`, run 2 was made without it."""
    found = [(row["status"], row["guest_hosts"]) for row in stored]
    assert found == [("crashed", "node0,node1,node2"), ("ok", "node0,node1,node0")], [row["reason"] for row in stored]
    assert stored[0]["reason"].partition(" died: ")[0].endswith(f"of guest 2 on {node}"), stored[0]["reason"]
    assert (stored[1]["pages_resolved"], stored[1]["wrong_words"]) == (3 * 1024, 0)


def test_three_guests_on_three_machines_are_one_run_and_every_row_says_where(cluster: Cluster, tmp_path: Path) -> None:
    asked = ("guests=3", "fault_mix=absent", "source=remote", "memory.region_mib=4")
    with cluster.driver(tmp_path, *asked) as driver:
        driver.next("sweep_ended")
        assert driver.process.wait(timeout=60) == 0
    assert assert_three_guests_on_three_hosts(tmp_path) == ["node0", "node1", "node2"]


def test_a_lost_node_ends_its_guests_run_by_name_and_the_sweep_goes_on_without_it(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.driver(tmp_path, "guests=3", "repeats=2", *SLOW) as driver:
        driver.next("look")
        assert_run_and_sweep_end(driver, cluster.lose())
    assert_went_on_without("node2", rows(tmp_path))


def test_a_node_that_is_cut_off_ends_its_actors_itself_and_the_sweep_goes_on_without_it(cluster: Cluster, tmp_path: Path) -> None:
    machine = cluster.node2
    with cluster.driver(tmp_path, "guests=3", "repeats=2", *SLOW) as driver:
        driver.next("look")
        assert all(map(machine.running, ACTORS))
        lost = cluster.cut_off()
        wait_for(lambda: not any(map(machine.running, ACTORS)), "the end of the actors that were cut off", DEADMAN_S + 15)
        assert machine.running("raylet/raylet"), "they ended by themselves"
        assert_run_and_sweep_end(driver, lost)
    assert_went_on_without("node2", rows(tmp_path))


@contextlib.contextmanager
def lock_file() -> Iterator[IO[str]]:
    """The host's, to be locked by the test."""
    host = HostLock()
    host.take()  # its file is there now
    host.give()
    with open(LOCK_FILE) as lock:
        yield lock


def test_a_node_that_is_lost_before_the_first_run_ends_it_early_by_name(cluster: Cluster, tmp_path: Path) -> None:
    with lock_file() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with cluster.driver(tmp_path, "guests=3", "repeats=2", *SLOW) as driver:
            driver.next("waiting")
            lost = cluster.lose()
            fcntl.flock(lock, fcntl.LOCK_UN)
            driver.next("run_ended")
            assert time.monotonic() - lost < PLACED_BOUND_S
            driver.next("sweep_ended")
    first, second = rows(tmp_path)
    assert (first["status"], first["reason"].partition(":")[0]) == ("failed", "node node2 is gone")
    assert (second["status"], second["guest_hosts"]) == ("ok", "node0,node1,node0"), second["reason"]


def test_a_node_that_is_lost_while_its_host_is_waited_for_costs_one_run(cluster: Cluster, tmp_path: Path) -> None:
    with lock_file() as lock, cluster.driver(tmp_path, "guests=3", "repeats=3", *SLOW) as driver:
        driver.next("look")
        ours = threading.Thread(target=fcntl.flock, args=(lock, fcntl.LOCK_EX), daemon=True)
        ours.start()  # it is the next one to have the host
        driver.next("waiting")
        ours.join()
        cluster.lose()
        fcntl.flock(lock, fcntl.LOCK_UN)
        driver.next("sweep_ended")
    first, *others = rows(tmp_path)
    assert first["status"] == "ok"
    assert_went_on_without("node2", others)
