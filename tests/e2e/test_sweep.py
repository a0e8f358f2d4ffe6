"""Whole sweeps on the real kernel, real Ray and real Parquet."""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars
import pytest

from results.store.dataset import DataSet
from tests.e2e.command import run
from tests.e2e.conftest import Sweep


def test_a_sweep_is_one_data_set_that_every_library_reads(sweep: Sweep) -> None:
    done, tmp_path = sweep.done, sweep.folder
    assert sweep.left == set()
    assert "[16/16]" in done.stderr
    assert "x uffd_wait" in done.stdout and "no_slow_gup" in done.stdout

    dataset = DataSet.existing(str(tmp_path / "outputs/dataset"))
    runs = dataset.read("runs").to_pylist()
    assert len(runs) == 16
    assert {row["status"] for row in runs} == {"ok"}
    assert all(row["pages_resolved"] == row["pages"] == 1024 for row in runs)
    assert all(row["fault_records"] == row["faults"] for row in runs)
    assert all(row["wrong_words"] == 0 and row["unprepared"] == 0 for row in runs)
    assert [row["repeat"] for row in sorted(runs, key=lambda row: row["run_id"])] == [0] * 8 + [1] * 8
    absent = [row for row in runs if row["fault_mix"] == "absent"]
    assert all(row["fetched_pages"] == 1024 for row in absent)
    assert all(row["requests"] == (1024 if row["strategy"] == "no_slow_gup" else 0) for row in absent)

    path = f"{tmp_path}/outputs/dataset"
    faults = f"read_parquet('{path}/faults/**/*.parquet')"
    query = f"select count(*), count(distinct run_id) from {faults} where resumed_ns > raised_ns"
    assert duckdb.sql(query).fetchall() == [(16 * 1024, 16)]
    vcpus = polars.scan_parquet(f"{path}/vcpus/**/*.parquet").collect()
    assert vcpus["pages_resolved"].sum() == 16 * 1024


def test_anonymous_memory_in_one_vmm_process_with_several_readers_and_overlap(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "loadgen",
        "memory=anon",
        "fault_mix=absent",
        "vcpus=4",
        "vcpus_per_vmm=4",
        "page_server.readers_per_uffd=2",
        "access.overlap=true",
        "memory.region_mib=4",
        "strategy.fault_around_pages=4",
        "quiet=true",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    [row] = DataSet.existing(str(tmp_path / "outputs/dataset")).read("runs").to_pylist()
    assert row["pages_resolved"] == 1024 and row["wrong_words"] == 0 and row["readers"] == 2


def test_faults_above_the_limit_are_sampled_and_the_run_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen", "memory.region_mib=4", "faults_limit=128", "strategy=no_uffd_wait")
    assert done.returncode == 0, done.stderr
    dataset = DataSet.existing(str(tmp_path / "outputs/dataset"))
    [row] = dataset.read("runs").to_pylist()
    assert (row["faults"], row["sample_every"], row["fault_records"]) == (1024, 8, 128)
    assert dataset.planned(row["sweep_id"]) == [row["plan_key"]], "without it a missing run could not be missed"
    assert dataset.read("faults").num_rows == 128


def test_a_dry_run_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen", "-m", "strategy=uffd_wait,no_slow_gup", "vcpus=1,2", "repeats=2", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "8 runs, about" in done.stdout and "nothing was started" in done.stdout
    order = [line for line in done.stdout.splitlines() if "repeat=" in line]
    assert [line.count("repeat=0") for line in order] == [1] * 4 + [0] * 4
    assert not (tmp_path / "outputs" / "dataset").exists()


def test_a_wrong_third_value_of_an_axis_fails_before_the_first_run(tmp_path: Path) -> None:
    done = run(tmp_path, "loadgen", "-m", "fault_mix=minor", "memory=shmem,anon", "vcpus=1,2")
    assert done.returncode == 1
    assert "no page of it can be minor; use fault_mix=absent" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs" / "dataset").exists()


@pytest.mark.usefixtures("huge_pages")
def test_huge_pages_are_served_when_they_are_reserved(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "loadgen",
        "-m",
        "memory=hugetlb",
        "memory.region_mib=32",
        "strategy=uffd_wait,no_uffd_wait,no_slow_gup",
        "fault_mix=minor,absent",
    )
    assert done.returncode == 0, done.stderr
    runs = DataSet.existing(str(tmp_path / "outputs/dataset")).read("runs").to_pylist()
    assert len(runs) == 6
    assert all(row["pages_resolved"] == 16 and row["wrong_words"] == 0 for row in runs)
