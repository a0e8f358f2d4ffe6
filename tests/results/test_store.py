"""What a data set promises: whole runs only, one version only, no run twice, and errors that name the way out."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pytest

from results.schema import COLUMNS, SCHEMA_VERSION
from results.store.dataset import DataSet, DataSetError
from tests.results.rows import FAULT_DTYPE, KINDS, OUTCOMES, faults, run_row, store, vcpu_rows

REPOSITORY = Path(__file__).parents[2]


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_invisible_until_it_is_committed_and_whole_afterwards(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    writer = dataset.writer("run-a", "sweep-1")
    writer.faults(KINDS, OUTCOMES).add(np.zeros(2, np.uint16), faults([100, 200]))
    assert dataset.sweeps() == []
    assert dataset.read("faults").num_rows == 0
    assert len(dataset.unfinished()) == 1
    writer.commit(run_row(), vcpu_rows(1.0))
    assert files_of(tmp_path) == {
        "_schema.json",
        "faults/sweep=sweep-1/run-a.parquet",
        "rounds/sweep=sweep-1/run-a.parquet",
        "runs/sweep=sweep-1/run-a.parquet",
        "vcpus/sweep=sweep-1/run-a.parquet",
    }
    assert dataset.read("faults").num_rows == dataset.read("runs", ["fault_records"])["fault_records"][0].as_py() == 2
    assert dataset.unfinished() == []


def test_a_driver_killed_while_it_writes_leaves_every_table_readable(tmp_path: Path) -> None:
    store(DataSet.open(str(tmp_path)), "run-a", latencies_ns=[100])
    program = """
import os, signal, sys
import numpy as np
from results.store.dataset import DataSet
from tests.results.rows import KINDS, OUTCOMES, faults
writer = DataSet.open(sys.argv[1]).writer("run-b", "sweep-1")
records = faults([100] * 300_000)
for _ in range(4):
    writer.faults(KINDS, OUTCOMES).add(np.zeros(300_000, np.uint16), records)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    dataset = DataSet.existing(str(tmp_path))
    assert dataset.unfinished() != []
    assert dataset.read("runs", ["run_id"])["run_id"].to_pylist() == ["run-a"]
    for table in COLUMNS:
        assert set(duckdb.execute(f"select run_id from '{tmp_path}/{table}/**/*.parquet'").fetchall()) == {("run-a",)}
    store(DataSet.open(str(tmp_path)), "run-b")
    assert dataset.read("runs").num_rows == 2


def test_a_driver_killed_between_the_renames_leaves_no_run_row_and_the_run_can_be_stored_again(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "run-a", latencies_ns=[100, 100])
    # The runs row is renamed last: this is what is there if the driver dies just before.
    (tmp_path / "runs/sweep=sweep-1/run-a.parquet").unlink()
    assert dataset.read("runs").num_rows == 0
    assert dataset.read("faults").num_rows == 2
    store(dataset, "run-a", latencies_ns=[100, 100, 100])
    assert dataset.read("runs").num_rows == 1
    assert dataset.read("faults").num_rows == 3


def test_a_runs_row_never_appears_before_its_faults(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults/sweep=sweep-1").write_text("in the way of the folder")
    with pytest.raises(DataSetError, match=r"cannot store run run-a: .*make it writable or use a data set elsewhere"):
        store(dataset, "run-a", latencies_ns=[100])
    assert dataset.read("runs").num_rows == 0
    assert dataset.unfinished() == []


def test_a_discarded_run_leaves_nothing(tmp_path: Path) -> None:
    with DataSet.open(str(tmp_path)).writer("run-a", "sweep-1") as writer:
        writer.faults(KINDS, OUTCOMES).add(np.zeros(1, np.uint16), faults([100]))
    assert files_of(tmp_path) == {"_schema.json"}
    assert list((tmp_path / "_incoming").iterdir()) == []
    with pytest.raises(ValueError, match="run run-a has been committed or discarded"):
        writer.commit(run_row(), [])


def test_a_run_is_never_stored_twice_not_even_in_another_sweep(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "run-a", latencies_ns=[100])
    with pytest.raises(DataSetError, match=r"run run-a is already there .*give it another id"):
        dataset.writer("run-a", "sweep-2")
    first, second = dataset.writer("run-b", "sweep-1"), dataset.writer("run-b", "sweep-1")
    first.commit(run_row(seed=1), [])
    with pytest.raises(DataSetError, match="run run-b is already there"):
        second.commit(run_row(seed=2), [])
    assert dataset.read("runs", ["seed"])["seed"].to_pylist() == [None, 1]


def test_a_newer_schema_version_is_refused_with_both_versions_and_the_way_out(tmp_path: Path) -> None:
    DataSet.open(str(tmp_path))
    (tmp_path / "_schema.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    expected = (
        f"data set {tmp_path} holds schema version {SCHEMA_VERSION + 1}, this package has version {SCHEMA_VERSION}: "
        "use a data set elsewhere, or the release of this package that wrote it"
    )
    for opened in (DataSet.open, DataSet.existing):
        with pytest.raises(DataSetError) as caught:
            opened(str(tmp_path))
        assert str(caught.value) == expected


def test_a_marker_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    for marker in ("[]", '{"schema_version": null}', "not JSON"):
        (tmp_path / "_schema.json").write_text(marker)
        with pytest.raises(DataSetError, match=r"its _schema\.json makes no sense; use a data set elsewhere"):
            DataSet.open(str(tmp_path))


def test_what_a_thread_used_is_a_row_of_its_own_and_commit_returns_the_row_it_stored(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    threads = [
        {"role": "vcpu", "number": 0, "vmm": 0, "user_ns": 5, "cpus": [1]},
        {"role": "driver", "number": 0, "tid": 9, "system_ns": 7},
    ]
    stored = dataset.writer("run-a", "sweep-1").commit(run_row(delays=4, delay_ns=10_000), vcpu_rows(1.0), threads)
    assert dataset.read("runs").to_pylist() == [dict.fromkeys(dataset.read("runs").column_names) | stored]
    assert (stored["pages_per_s"], stored["achieved_delay_us"]) == (1_000_000, 2.5)
    names = ["run_id", "role", "number", "vmm", "tid", "user_ns", "system_ns", "cpus"]
    assert [tuple(row.values()) for row in dataset.read("threads", names).to_pylist()] == [
        ("run-a", "vcpu", 0, 0, None, 5, None, [1]),
        ("run-a", "driver", 0, None, 9, None, 7, None),
    ]


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(DataSetError, match=r"is not a data set: it has no _schema\.json but holds thesis\.tex; give"):
        DataSet.open(str(tmp_path))
    assert files_of(tmp_path) == {"thesis.tex"}


def test_a_file_or_a_place_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataSetError, match="is a file: give a folder that is empty or not there yet"):
        DataSet.open(str(tmp_path / "file"))
    with pytest.raises(DataSetError, match=r"file/dataset: cannot .*make it writable or use a data set elsewhere"):
        DataSet.open(str(tmp_path / "file" / "dataset"))


@contextmanager
def without_root() -> Iterator[None]:
    """The rights of another user, if we are root, who may write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_data_set_without_permission_to_write_is_refused() -> None:
    # Not below tmp_path: another user cannot read it.
    with tempfile.TemporaryDirectory() as folder:
        DataSet.open(folder)
        os.chmod(folder, 0o755)
        os.chmod(f"{folder}/_incoming", 0o555)
        with (
            without_root(),
            pytest.raises(DataSetError, match=r"cannot write there: .*make it writable or use a data set elsewhere"),
        ):
            DataSet.open(folder)
        with without_root():
            assert DataSet.existing(folder).sweeps() == []


def test_a_file_system_that_takes_no_more_is_reported_and_what_was_stored_stays(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    store(dataset, "run-a", latencies_ns=[100])
    noise = np.random.default_rng(1).integers(1, 2**62, (200_000, 7), dtype=np.uint64)
    records = np.zeros(len(noise), FAULT_DTYPE)
    for name, column in zip(FAULT_DTYPE.names or (), noise.T, strict=False):
        records[name] = column if name.endswith("_ns") else 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))  # Python ignores SIGXFSZ: writes fail with EFBIG
    try:
        with (
            pytest.raises(DataSetError, match=r"run run-b: .*free some space, store fewer faults"),
            dataset.writer("run-b", "sweep-1") as writer,
        ):
            writer.faults(KINDS, OUTCOMES).add(np.zeros(len(records), np.uint16), records)
            writer.commit(run_row(), [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert dataset.unfinished() == []
    assert dataset.read("runs", ["run_id"])["run_id"].to_pylist() == ["run-a"]


def test_reading_where_no_data_set_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match="no data set there"):
        DataSet.existing(str(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(DataSetError, match=r"data set gopher://host/x: .*or give a local path"):
        DataSet.open("gopher://host/x")


def test_a_file_uri_is_the_same_data_set_as_its_path(tmp_path: Path) -> None:
    store(DataSet.open(f"file://{tmp_path}/dataset"), "run-a")
    assert DataSet.existing(str(tmp_path / "dataset")).sweeps() == ["sweep-1"]


def test_a_failed_run_leaves_a_row_with_its_reason_and_nulls_for_what_was_not_measured(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    with dataset.writer("run-a", "sweep-1") as writer:
        writer.commit({"status": "stuck", "reason": "vCPU 3, page 17", "strategy": "uffd_wait"}, [])
    row = dataset.read("runs").to_pylist()[0]
    assert (row["status"], row["reason"], row["fault_records"]) == ("stuck", "vCPU 3, page 17", 0)
    assert row["schema_version"] == SCHEMA_VERSION
    assert {row[name] for name in ("pages_per_s", "pages_per_s_net", "duration_s", "latency_p99_ns")} == {None}


def test_what_the_schema_does_not_know_is_refused_by_name(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for row, message in (
        (run_row(colour="red"), r"runs has no column colour; its columns: run_id, sweep_id, "),
        (run_row(vcpus="four"), r"runs\.vcpus: "),
        (run_row(pages_per_s=1.0), "pages_per_s: derived by results, not to be given"),
        (run_row(status="fine"), "status 'fine' is none of ok, failed, corrupt, crashed, stuck, interrupted"),
        (run_row(run_id="other"), "run_id is 'other', but this writer's is 'run-a'"),
    ):
        with pytest.raises(ValueError, match=message), dataset.writer("run-a", "sweep-1") as writer:
            writer.commit(row, [])
    with pytest.raises(ValueError, match=r"vcpus\.vcpu must not be null"):
        dataset.writer("run-a", "sweep-1").commit(run_row(), [{"tid": 1}])
    assert dataset.read("runs").num_rows == 0


def test_faults_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    with DataSet.open(str(tmp_path)).writer("run-a", "sweep-1") as writer:
        with pytest.raises(ValueError, match="1 vCPU numbers for 2 fault records"):
            writer.faults(KINDS, OUTCOMES).add(np.zeros(1, np.uint16), faults([1, 2]))
        with pytest.raises(ValueError, match=r"kind code 1 has no name among \['hit'\]"):
            writer.faults(("hit",), OUTCOMES).add(np.zeros(1, np.uint16), faults([1]))


def test_ids_that_are_no_file_names_are_refused(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for run_id in ("", "a/b", "../a", "_a", ".a"):
        with pytest.raises(ValueError, match="only letters, digits and any of"):
            dataset.writer(run_id, "sweep-1")


def test_every_value_of_every_chunk_arrives_in_order_though_the_array_is_reused(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    rows = 600_000
    rng = np.random.default_rng(7)
    chunk = np.zeros(rows, FAULT_DTYPE)
    expected = []
    with dataset.writer("run-a", "sweep-1") as writer:
        for number in range(2):
            for name in FAULT_DTYPE.names or ():
                chunk[name] = rng.integers(0, 3, rows) * (10**15 if name.endswith("_ns") else 1)
            expected.append(chunk.copy())
            writer.faults(KINDS, OUTCOMES).add(np.full(rows, number, np.uint16), chunk)
            chunk[:] = np.zeros(1, FAULT_DTYPE)
        writer.commit(run_row(), [])
    records = np.concatenate(expected)
    table = dataset.read("faults")
    assert table["vcpu"].to_numpy().tolist() == [0] * rows + [1] * rows
    for name in ("page", "cpu"):
        assert np.array_equal(table[name].to_numpy(), records[name])
    for name in (name for name in FAULT_DTYPE.names or () if name.endswith("_ns")):
        assert table[name].null_count == np.count_nonzero(records[name] == 0)
        assert np.array_equal(table[name].fill_null(0).to_numpy(), records[name])
    for name, names in (("kind", KINDS), ("outcome", OUTCOMES)):
        assert np.array_equal(table[name].to_numpy(), np.array(names, object)[records[name]])


def test_what_a_killed_driver_has_left_of_a_sweep_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dataset = DataSet.open(str(tmp_path))
    for sweep_id in ("s-killed", "s-other"):
        with dataset.writer(f"{sweep_id}-000-00000", sweep_id) as writer:
            writer.commit({"status": "ok"}, [{"vcpu": 0}])
        dataset.writer(f"{sweep_id}-000-00001", sweep_id)  # never committed
    moved = tmp_path / "vcpus" / "sweep=s-killed" / "s-killed-000-00001.parquet"  # killed before its row of runs was moved
    moved.write_bytes(moved.with_name("s-killed-000-00000.parquet").read_bytes())
    assert dataset.remove_unfinished("s-killed") == ["s-killed-000-00001"]
    assert not moved.exists()
    assert [name.rpartition("-")[0] for name in dataset.unfinished()] == ["s-other-000-00001"]
    assert dataset.read("runs").num_rows == dataset.read("vcpus").num_rows == 2
    assert dataset.remove_unfinished("s-killed") == []
