"""`verify` names whatever does not agree: each test takes a data set that does, and breaks one thing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from results.app import main
from results.schema import COUNTERS
from results.store.dataset import DataSet
from results.store.parquet import as_table
from tests.results.rows import KINDS, OUTCOMES, faults, run_row, thread_rows, vcpu_rows

ZEROS = {counter.name: 0 for counter in COUNTERS}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One run of two vCPUs, three faults, and a reader that read three events."""
    dataset = DataSet.open(str(tmp_path / "dataset"))
    vcpus = [{**row, **ZEROS, "recorded": 3 - 3 * row["vcpu"], "lost_races": 1} for row in vcpu_rows(1.0)]
    threads = [*thread_rows(), {"role": "reader", "number": 0, **ZEROS, "events": 3, "events_resolved": 3, "lost_races": 1}]
    run = run_row(pages=8, sample_every=1, source="local", **{**ZEROS, "events": 3, "events_resolved": 3, "lost_races": 2})
    with dataset.writer("run-a", "sweep-1") as writer:
        writer.faults(KINDS, OUTCOMES).add(np.zeros(3, np.uint16), faults([100, 200, 300]))
        writer.commit(run, vcpus, threads)
    return tmp_path / "dataset"


def edit(folder: Path, table: str, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """Rewrite the run's file of `table` with its rows changed."""
    file = folder / table / "sweep=sweep-1" / "run-a.parquet"
    rows = pq.read_table(file, partitioning=None).to_pylist()
    change(rows)
    pq.write_table(as_table(table, rows), file)


def found(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main(["verify", str(folder)]) == 1
    *lines, total = capsys.readouterr().out.splitlines()
    assert total == f"1 runs, {len(lines)} disagreements"
    return lines


def test_a_data_set_that_agrees_with_itself_ends_with_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == "1 runs, everything agrees\n"


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("pages_per_s", 1.0, "run-a: pages_per_s=1.0, and computed again it is 1000000.0"),
        ("latency_p99_ns", 299, "run-a: latency_p99_ns=299, and computed again it is 300"),
        ("overhead_s", 1.0, "run-a: overhead_s=1.0, and computed again it is None"),
        ("trips", 5, "run-a: trips=5, and its vCPUs and the page server's threads sum to 0"),
        ("lost_races", 3, "run-a: lost_races=3, and its vCPUs sum to 2"),
        ("fault_records", 4, "run-a: fault_records=4, and faults has 3 rows of it"),
        ("pages", 2, "run-a: 1 faults are on pages beyond pages=2"),
        ("memory_errors", 1, "run-a: memory_errors=1, and 0 faults ended so"),
        ("status", "fine", "run-a: status='fine' is none of ok, failed, "),
    ],
)
def test_a_column_of_the_run_that_is_wrong_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], column: str, value: Any, said: str
) -> None:
    edit(folder, "runs", lambda rows: rows[0].update({column: value}))
    assert any(line.startswith(said) for line in found(folder, capsys))


def test_a_sum_of_the_readers_that_does_not_come_out_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "threads", lambda rows: rows[-1].update(events_lost=1))
    assert found(folder, capsys) == [
        "run-a: events_lost=0, and its vCPUs and the page server's threads sum to 1",
        "run-a: reader 0: events=3, and events_resolved + resolved_again + events_lost + events_poisoned + events_dropped is 4",
    ]


def test_a_fault_taken_away_is_missed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: rows.pop())
    lines = found(folder, capsys)
    assert "run-a: fault_records=3, and faults has 2 rows of it" in lines
    assert "run-a: vCPU 0: recorded=3, and faults has 2 rows of it" in lines
    assert "run-a: latency_p99_ns=300, and computed again it is 200" in lines


def test_stages_out_of_order_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: [row.update(delivered_ns=row["raised_ns"] - 1) for row in rows[:2]])
    assert found(folder, capsys) == ["run-a: 2 faults have delivered_ns before the stage ahead of it"]


def test_rows_of_another_run_in_the_file_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder, "faults", lambda rows: rows[0].update(run_id="run-b"))
    assert found(folder, capsys) == ["run-a: 1 rows of faults in its file belong to another run or sweep"]


def test_rows_without_a_run_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs/sweep=sweep-1/run-a.parquet").unlink()
    assert main(["verify", str(folder)]) == 1
    out = capsys.readouterr().out
    for table in ("vcpus", "threads", "faults"):
        assert f"run-a: has rows in {table} and none in runs" in out


def test_an_older_data_set_agrees_with_itself() -> None:
    assert main(["verify", str(Path(__file__).parent / "data" / "version-1")]) == 0
