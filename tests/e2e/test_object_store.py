"""A sweep whose data set is in object storage, the store named as every client of S3 has it: by environment variables."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from results.store.dataset import DataSet
from tests.e2e.command import run
from tests.object_store import CREDENTIALS, s3_server

DATASET = "s3://bucket/results/one"
SWEEP = ("-m", "strategy=uffd_wait,no_slow_gup", "memory.region_mib=4", f"dataset={DATASET}")


@pytest.fixture(scope="module")
def store() -> Iterator[Mapping[str, str]]:
    """What a command needs in its environment to find the store."""
    with s3_server() as server:
        yield CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://{server}"}


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_sweep_into_a_bucket_is_shown_from_there_and_goes_on_from_what_is_stored(
    store: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ok(run(tmp_path, "loadgen", *SWEEP, settings=store))
    assert f"in {DATASET}" in first
    for key, value in store.items():
        monkeypatch.setenv(key, value)
    dataset = DataSet.existing(DATASET)
    stored = {run["run_id"]: run for run in dataset.read("runs").to_pylist()}
    assert {run["strategy"]: run["status"] for run in stored.values()} == {"uffd_wait": "ok", "no_slow_gup": "ok"}
    assert all((run["pages_resolved"], run["wrong_words"]) == (1024, 0) for run in stored.values())
    assert dataset.read("faults").num_rows == 2 * 1024
    assert dataset.unfinished() == []
    assert not (tmp_path / "outputs/dataset").exists()

    shown = ok(run(tmp_path, "loadgen-report", "show", DATASET, settings=store))
    assert "uffd_wait" in shown and "no_slow_gup" in shown

    again = run(tmp_path, "loadgen", *SWEEP, "repeats=2", "resume=true", settings=store)
    ok(again)
    assert "2 of 4 runs are stored" in again.stderr
    runs = dataset.read("runs").to_pylist()
    assert len({run["plan_key"] for run in runs}) == len(runs) == 4 and {run["status"] for run in runs} == {"ok"}
    assert stored.keys() < {run["run_id"] for run in runs}, "what was stored is as it was"
