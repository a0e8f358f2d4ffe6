"""`verify` names files that are missing, copied, renamed, torn or changed, and runs that are missing from their plan."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.app import main
from results.store.dataset import DataSet
from results.store.parquet import as_table
from tests.results.verifiable import edit, found, write_run


@pytest.mark.parametrize("table", ["vcpus", "threads", "rounds", "faults", "runs"])
def test_a_file_that_is_gone_is_missed(folder: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
    edit(folder, "runs", lambda rows: rows[0].update(rounds=1))
    DataSet.open(str(folder)).plan("sweep-1", ["key-a"])
    (folder / table / "sweep=sweep-1" / "run-a.parquet").unlink()
    said = {
        "faults": "run-a: fault_records=3, and faults has 0 rows of it",
        "rounds": "run-a: rounds=1, and it has no rows in rounds",
        "runs": "sweep sweep-1: 1 of 1 planned runs are missing; if its driver was killed, the same command with resume=true",
    }
    assert main(["verify", str(folder)]) == 1
    assert said.get(table, f"run-a: has no rows in {table}") in capsys.readouterr().out


def test_a_whole_run_that_is_gone_is_missed_by_its_plan_and_one_too_many_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = DataSet.open(str(folder))
    dataset.plan("sweep-1", ["key-a"])
    write_run(dataset, "run-b", plan_key="key-b", host="another")
    assert main(["verify", str(folder)]) == 1
    assert "sweep sweep-1: 1 runs that it did not plan" in capsys.readouterr().out
    dataset.plan("sweep-1", ["key-b"])  # resumed with another plan: it has both
    assert main(["verify", str(folder)]) == 0
    dataset.plan("sweep-1", ["key-b", "key-b"])
    assert main(["verify", str(folder)]) == 1
    assert "sweep sweep-1: 1 of 3 planned runs are missing;" in capsys.readouterr().out


def test_the_runs_that_an_interrupted_sweep_did_not_come_to_are_not_missed(folder: Path) -> None:
    dataset = DataSet.open(str(folder))
    dataset.plan("sweep-1", ["key-a", "key-b", "key-c"])
    with dataset.writer("run-b", "sweep-1") as writer:
        writer.commit({"status": "interrupted", "reason": "Ctrl-C", "plan_key": "key-b"}, [])
    assert main(["verify", str(folder)]) == 0


def test_an_interrupted_run_that_was_measured_again_is_not_one_too_many(folder: Path) -> None:
    dataset = DataSet.open(str(folder))
    dataset.plan("sweep-1", ["key-a", "key-b"])
    with dataset.writer("run-b", "sweep-1") as writer:
        writer.commit({"status": "interrupted", "reason": "Ctrl-C", "plan_key": "key-b"}, [])
    write_run(dataset, "run-c", plan_key="key-b", host="another")
    assert main(["verify", str(folder)]) == 0


def test_a_run_cloned_under_another_id_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("runs", "vcpus", "threads", "rounds", "faults"):
        there = folder / table / "sweep=sweep-1" / "run-a.parquet"
        rows = pq.read_table(there, partitioning=None).to_pylist()
        pq.write_table(as_table(table, [{**row, "run_id": "run-b"} for row in rows]), there.with_name("run-b.parquet"))
    assert main(["verify", str(folder)]) == 1
    assert "run-b: is a copy of run run-a: both began and ended at the same nanoseconds" in capsys.readouterr().out


def test_a_file_under_another_name_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for table in ("runs", "vcpus"):
        there = folder / table / "sweep=sweep-1" / "run-a.parquet"
        shutil.copy(there, there.with_name("run-b.parquet"))
    assert main(["verify", str(folder)]) == 1
    assert "run-b: 1 rows of runs in its file belong to another run or sweep" in capsys.readouterr().out


def test_a_foreign_or_torn_file_among_the_runs_is_named_and_the_rest_is_verified(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = folder / "runs" / "sweep=sweep-1"
    pq.write_table(pa.table({"colour": ["red"]}), runs / "foreign.parquet")
    (runs / "torn.parquet").write_bytes((runs / "run-a.parquet").read_bytes()[:-100])
    edit(folder, "runs", lambda rows: rows[0].update(latency_p99_ns=299))
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "foreign: cannot be read: " in out
    assert "torn: cannot be read: " in out
    assert "run-a: latency_p99_ns=299, and computed again it is 300" in out


@pytest.mark.parametrize("table", ["runs", "vcpus", "threads", "rounds", "faults"])
def test_a_flipped_bit_in_any_page_is_found(folder: Path, capsys: pytest.CaptureFixture[str], table: str) -> None:
    """One bit of the data of each column in turn: the pages' checksums, which the store writes, do not fit."""
    file = folder / table / "sweep=sweep-1" / "run-a.parquet"
    whole = file.read_bytes()
    group = pq.ParquetFile(file).metadata.row_group(0)
    unseen = []
    for number in range(0, group.num_columns, 7):
        column = group.column(number)
        end = (
            min(column.dictionary_page_offset or column.data_page_offset, column.data_page_offset) + column.total_compressed_size
        )
        flipped = bytearray(whole)
        flipped[end - 1] ^= 1 << (number % 8)
        file.write_bytes(flipped)
        if main(["verify", str(folder)]) == 0:
            unseen.append(column.path_in_schema)
    file.write_bytes(whole)
    assert unseen == []
    assert main(["verify", str(folder)]) == 0


def test_rows_of_another_run_in_the_file_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: rows[0].update(run_id="run-b"))
    assert found(folder, capsys) == ["run-a: 1 rows of faults in its file belong to another run or sweep"]


def test_rows_without_a_run_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs/sweep=sweep-1/run-a.parquet").unlink()
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    for table in ("vcpus", "threads", "faults"):
        assert f"run-a: has rows in {table} and none in runs" in out


@pytest.mark.parametrize("version", ["version-1", "version-2"])
def test_an_older_data_set_agrees_with_itself(version: str) -> None:
    assert main(["verify", str(Path(__file__).parent / "data" / version)]) == 0
