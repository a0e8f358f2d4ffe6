"""Runs submitted to a real Ray cluster as jobs, with the package installed there and not editable."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from results.store.dataset import DataSet
from tests.cluster.installed import checkout, install
from tests.cluster.ray_cluster import CONNECT, Place, free_port, ray_cluster, short_folder
from tests.e2e.command import run_program

pytestmark = pytest.mark.timeout(300)  # several Rays start


@dataclass(frozen=True)
class Jobs:
    """Where jobs are submitted: `address` of the dashboard, and the `python` that the cluster's nodes run on."""

    address: str
    python: str

    def submit(self, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit` with these arguments, waited for."""
        submit = (self.python, "-m", "ray.scripts.scripts", "job", "submit", "--address", self.address)
        return run_program(folder, *submit, *arguments, timeout_s=110, settings=CONNECT)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    commands = install(tmp_path_factory.mktemp("installed"))
    dashboard, agent = free_port(), free_port()
    options = ("--include-dashboard=true", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}")
    path = {"PATH": f"{commands}:{os.environ['PATH']}"}
    python = str(commands / "python")
    with short_folder() as folder, ray_cluster(folder, [Place(python=python)], *options, settings=path):
        _wait_for_dashboard(f"http://127.0.0.1:{dashboard}")
        yield Jobs(f"http://127.0.0.1:{dashboard}", python)


def _wait_for_dashboard(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api/version", timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError("the dashboard does not answer")


@pytest.mark.parametrize("shipped", ["nothing", "a checkout"])
def test_a_submitted_job_runs_on_the_clusters_nodes_and_stores_its_runs(jobs: Jobs, tmp_path: Path, shipped: str) -> None:
    # A checkout has a folder workers/ without a native core, which comes before the installed one on the workers' path.
    with_it = ("--working-dir", str(checkout(tmp_path / "checkout"))) if shipped == "a checkout" else ()
    asked = ("cluster=existing", "cluster.address=auto", "measure_s=0", "memory.region_mib=4", f"dataset={tmp_path}/dataset")
    done = jobs.submit(tmp_path, *with_it, "--", "loadgen", *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    [run] = DataSet.existing(f"{tmp_path}/dataset").read("runs").to_pylist()
    assert (run["status"], run["cluster"], run["pages_resolved"], run["wrong_words"]) == ("ok", "existing", 1024, 0)


def test_a_job_whose_run_is_refused_has_failed_and_its_log_says_why(jobs: Jobs, tmp_path: Path) -> None:
    done = jobs.submit(tmp_path, "--", "loadgen", "cluster=existing", "cluster.address=auto", "vcpus=0")
    assert done.returncode == 1
    assert "vcpus=0 is too small: use at least 1" in done.stdout
