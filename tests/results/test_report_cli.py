"""`loadgen-report` as a user meets it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from results.app import COMMANDS, main
from results.schema import SCHEMA_VERSION
from results.store.dataset import DataSet
from tests.results.printed import lines_of, unwrapped
from tests.results.rows import store


@pytest.fixture
def folder(tmp_path: Path) -> str:
    dataset = DataSet.open(str(tmp_path / "dataset"))
    store(dataset, "run-a", latencies_ns=[100, 200])
    store(dataset, "run-b", strategy="no_uffd_wait", seconds=1.0)
    store(dataset, "run-c", status="crashed", reason="vCPU actor died")
    store(dataset, "run-d", sweep_id="sweep-2")
    dataset.writer("run-e", "sweep-2")
    return dataset.uri


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: loadgen-report {command}")
    assert max(map(len, printed.splitlines())) <= 100


def test_show_names_sweeps_statuses_hosts_and_columns(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", folder, "--columns"]) == 0
    out = capsys.readouterr().out
    assert f"data set {folder}, schema version {SCHEMA_VERSION}: 4 runs in 2 sweeps" in unwrapped(out)
    line = next(line for line in out.splitlines() if "sweep-1" in line)
    assert "2 ok, 1 crashed" in line
    assert "host: a-host (6.1.0)" in out
    assert "unfinished, in _incoming: run-e-" in out
    assert "  resumed_ns               ns             the access was done" in out


def test_table_prints_the_summary_of_one_sweep(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", folder, "--sweep", "sweep-1"]) == 0
    out = capsys.readouterr().out
    assert lines_of(out, "no_uffd_wait")[0][2] == "1000"
    assert "not counted: run-c uffd_wait crashed: vCPU actor died" in out


def test_table_prints_any_column_by_any_two_others(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", folder, "--rows", "memory_type", "--cols", "strategy", "--value", "duration_s"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["\\", "strategy", "uffd_wait", "no_uffd_wait"]
    assert lines_of(out, "shmem") == [["shmem", "2.00", "1.00"]]


def test_table_of_an_unknown_column_lists_the_columns(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", folder, "--value", "speed"]) == 2
    assert "loadgen-report: runs has no column 'speed'; it has: run_id, sweep_id" in capsys.readouterr().err


def test_a_command_where_no_data_set_is_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "table", "stages", "export", "verify", "report"):
        assert main([command, str(tmp_path / "nothing")]) == 2
        assert f"loadgen-report: {tmp_path}/nothing: no data set there" in capsys.readouterr().err


def test_export_writes_csv_that_a_spreadsheet_reads(folder: str, tmp_path: Path) -> None:
    out = tmp_path / "vcpus.csv"
    assert main(["export", folder, "--table", "vcpus", "--sweep", "sweep-2", "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run_id"], row["vcpu"], row["cpus"], row["stuck"]) for row in rows] == [
        ("run-d", "0", "0 0", ""),
        ("run-d", "1", "0 1", ""),
    ]


def test_export_writes_json_lines_with_nulls(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", folder, "--table", "faults", "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["page"], row["resumed_ns"] - row["raised_ns"], row["fetched_ns"]) for row in rows] == [
        (0, 100, None),
        (1, 200, None),
    ]


def test_export_to_a_place_that_cannot_be_written_is_an_error(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", folder, "--out", f"{folder}/_schema.json/runs.csv"]) == 2
    assert "loadgen-report: [Errno 20] Not a directory" in capsys.readouterr().err
