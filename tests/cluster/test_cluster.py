"""Guests over the nodes of a real Ray cluster: three nodes on this machine, the last of them with one CPU."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.ray_cluster import CONNECT, Place, ray_cluster, short_folder
from tests.cluster.stored import assert_three_guests_on_three_hosts
from tests.e2e.command import run

pytestmark = pytest.mark.timeout(300)  # several Rays start


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    places = [Place(), Place(), Place(["taskset", "-c", "0"])]
    with short_folder() as folder, ray_cluster(folder, places, "--include-dashboard=false") as cluster:
        yield cluster.address


def loadgen(folder: Path, address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    asked = ("cluster=existing", f"cluster.address={address}", "memory.region_mib=4", *arguments)
    return run(folder, "loadgen", *asked, timeout_s=110, settings=CONNECT)


def test_three_guests_on_three_nodes_are_one_run_and_every_row_says_where(address: str, tmp_path: Path) -> None:
    done = loadgen(tmp_path, address, "guests=3", "cores=1", "vcpus=1", "fault_mix=absent", "source=remote")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_three_guests_on_three_hosts(tmp_path)


def test_a_node_that_lacks_what_a_run_needs_is_refused_by_name_before_anything_starts(address: str, tmp_path: Path) -> None:
    done = loadgen(tmp_path, address, "cores=2")
    assert done.returncode == 1
    [problem] = [line for line in done.stderr.splitlines() if line.startswith("- ")]
    assert problem.startswith("- node ") and "): cores=2, but this process may use 1 CPUs" in problem
    assert not (tmp_path / "outputs/dataset").exists()
    unknown = loadgen(tmp_path, address, "cluster.leave_out=[elsewhere]")
    assert "cluster.leave_out names elsewhere, and no node is called so: there are" in unknown.stderr
    node = problem.removeprefix("- node ").split(" ")[0].partition("/")[2]
    without = loadgen(tmp_path, address, "cores=2", f"cluster.leave_out=['{node}']", "dry_run=true")
    assert without.returncode == 0, without.stderr
