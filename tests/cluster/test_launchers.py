"""Sweeps whose jobs a launcher of Hydra's starts elsewhere, all at once: on a host they still measure one after the other."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from results.store.dataset import DataSet
from tests.cluster.ray_cluster import CONNECT, short_folder
from tests.cluster.slurm import require_slurm, slurm
from tests.e2e.command import BIN, run

pytestmark = pytest.mark.timeout(300)  # several Rays start


def assert_measured_one_after_the_other(dataset: Path) -> None:
    """One sweep of two strategies with one vCPU each."""
    runs = DataSet.existing(str(dataset)).read("runs").to_pylist()
    assert {run["strategy"] for run in runs} == {"uffd_wait", "no_uffd_wait"}
    assert all((run["status"], run["exclusive"], run["wrong_words"]) == ("ok", True, 0) for run in runs)
    assert len({run["sweep_id"] for run in runs}) == 1
    vcpus = DataSet.existing(str(dataset)).read("vcpus", ["start_ns", "end_ns"]).to_pylist()
    (_, first_ended), (second_began, _) = sorted((vcpu["start_ns"], vcpu["end_ns"]) for vcpu in vcpus)
    assert first_ended < second_began


def test_jobs_that_ray_starts_side_by_side_measure_one_after_the_other(tmp_path: Path) -> None:
    if importlib.util.find_spec("hydra_plugins.hydra_ray_launcher") is None:
        pytest.skip("hydra-ray-launcher is not installed: pip install 'uffd-loadgen[ray-launcher]'")
    asked = ("-m", "hydra/launcher=ray", "strategy=uffd_wait,no_uffd_wait", "memory.region_mib=4")
    done = run(tmp_path, "loadgen", *asked, f"dataset={tmp_path}/dataset", timeout_s=110, settings=CONNECT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_measured_one_after_the_other(tmp_path / "dataset")


def test_jobs_that_slurm_starts_side_by_side_measure_one_after_the_other(tmp_path: Path) -> None:
    if importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None:
        pytest.skip("hydra-submitit-launcher is not installed: pip install 'uffd-loadgen[slurm-launcher]'")
    require_slurm()
    asked = ("-m", "hydra/launcher=submitit_slurm", "strategy=uffd_wait,no_uffd_wait", "access.rate_per_s=500")
    with short_folder() as folder, slurm(folder) as there:
        done = there.run(str(BIN / "loadgen"), *asked, "memory.region_mib=4", folder=tmp_path, timeout_s=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_measured_one_after_the_other(tmp_path / "outputs/dataset")
    runs = DataSet.existing(str(tmp_path / "outputs/dataset")).read("runs", ["waited_s"]).to_pylist()
    assert max(run["waited_s"] for run in runs) > 0, "both jobs were there"
