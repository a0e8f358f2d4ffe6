"""Guests over the nodes of a real Ray cluster: three nodes on this machine, the last of them with one CPU."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.store import DataSet
from tests.cluster.ray_cluster import CONNECT, ray_cluster, wait_for_nodes
from tests.e2e.command import BIN, environment


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ray_cluster([[], [], ["taskset", "-c", "0"]]) as address:
        wait_for_nodes(address, 3)
        yield address


def loadgen(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "loadgen"), "cluster=existing", f"cluster.address={address}", "memory.region_mib=4", *arguments],
        cwd=folder,
        env=environment() | CONNECT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_three_guests_on_three_nodes_are_one_run_and_every_row_says_where(address: str, tmp_path: Path) -> None:
    done = loadgen(tmp_path, address, "guests=3", "cores=1", "vcpus=1", "fault_mix=absent", "source=remote")
    assert done.returncode == 0, done.stdout + done.stderr
    dataset = DataSet.existing(str(tmp_path / "outputs/dataset"))
    [run] = dataset.read("runs").to_pylist()
    assert (run["status"], run["guests"], run["cluster"], run["wrong_words"]) == ("ok", 3, "existing", 0)
    assert (run["pages_resolved"], run["fetched_on_demand"]) == (3 * 1024, 3 * 1024)
    hosts = run["guest_hosts"].split(",")
    assert len(set(hosts)) == 3
    vcpus = dataset.read("vcpus", ["guest", "host", "pages_resolved"]).to_pylist()
    assert [(one["guest"], one["host"], one["pages_resolved"]) for one in vcpus] == [(n, hosts[n], 1024) for n in range(3)]
    faults = dataset.read("faults", ["guest", "host"]).to_pylist()
    assert {(one["guest"], one["host"]) for one in faults} == set(enumerate(hosts))


def test_a_node_that_lacks_what_a_run_needs_is_refused_by_name_before_anything_starts(address: str, tmp_path: Path) -> None:
    done = loadgen(tmp_path, address, "cores=2")
    assert done.returncode == 1
    [problem] = [line for line in done.stderr.splitlines() if line.startswith("- ")]
    assert problem.startswith("- node ") and "): cores=2, but this process may use 1 CPUs" in problem
    assert not (tmp_path / "outputs/dataset").exists()
    unknown = loadgen(tmp_path, address, "cluster.leave_out=[elsewhere]")
    assert "cluster.leave_out names elsewhere, and no node is called so: there are" in unknown.stderr
    node = problem.removeprefix("- node ").split(" ")[0].partition("/")[2]
    without = loadgen(tmp_path, address, "cores=2", f"cluster.leave_out=[{node}]", "dry_run=true")
    assert without.returncode == 0, without.stderr
