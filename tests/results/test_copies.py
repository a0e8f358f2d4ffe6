"""Rows of `runs` are read from copies of many rows, each run once and as its own file has it, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from results.app import main
from results.schema import SCHEMA_VERSION
from results.store import copies
from results.store.dataset import DataSet
from results.store.locations import DataSetError, Location
from results.store.parquet import as_table
from tests.results.printed import unwrapped
from tests.results.rows import store
from tests.results.verifiable import write_run

ROWS = 8


LOCAL = pyarrow.fs.LocalFileSystem()
OPENED: Counter[str] = Counter()
"""Files of a counted data set that were opened to be read."""


def opened(path: str) -> pa.NativeFile:
    OPENED[path] += 1
    return LOCAL.open_input_file(path)


LISTS = {"get_file_info": LOCAL.get_file_info, "get_file_info_selector": LOCAL.get_file_info, "open_input_file": opened}
Counting = type(
    "Counting",
    (pyarrow.fs.FileSystemHandler,),
    {
        name: lambda self, *arguments, name=name: LISTS[name](*arguments)
        for name in pyarrow.fs.FileSystemHandler.__abstractmethods__
    },
)
"""The local file system, for reading."""


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are made of few runs."""
    monkeypatch.setattr("results.store.dataset.ROWS", ROWS)


def counted(folder: Path) -> DataSet:
    """The data set with an empty OPENED."""
    OPENED.clear()
    return DataSet(Location(pyarrow.fs.PyFileSystem(Counting()), str(folder), str(folder)), SCHEMA_VERSION)


def stored(folder: Path, runs: int, sweep_id: str = "sweep-1") -> DataSet:
    dataset = DataSet.open(str(folder))
    for number in range(runs):
        store(dataset, f"{sweep_id}-{number:03}", sweep_id=sweep_id, repeat=number, config_json=json.dumps({"repeat": number}))
    return dataset


def copied(folder: Path) -> list[Path]:
    return sorted((folder / "_runs").glob("*"))


def own(folder: Path) -> list[dict[str, Any]]:
    """The rows as their own files have them."""
    return [pq.read_table(file, partitioning=None).to_pylist()[0] for file in sorted((folder / "runs").rglob("*.parquet"))]


def test_as_many_files_are_opened_as_there_are_copies_and_runs_without_one(tmp_path: Path) -> None:
    dataset = stored(tmp_path, 3 * ROWS)
    assert len(copied(tmp_path)) == 2  # each time as many had been stored
    dataset.copy_runs()
    stored(tmp_path, 2, "sweep-2")
    assert len(copied(tmp_path)) == 3
    names = ["run_id", "repeat", "pages_per_s", "started_at", "config_json"]
    assert counted(tmp_path).runs(columns=names) == [{name: row[name] for name in names} for row in own(tmp_path)]
    assert len(OPENED) == OPENED.total() == 3 + 2
    assert len(counted(tmp_path).runs("sweep-2")) == len(OPENED) == 2
    assert counted(tmp_path).read("runs").to_pylist() == own(tmp_path)
    assert len(OPENED) == 3 + 2


def test_copies_that_overlap_give_each_run_once(tmp_path: Path) -> None:
    dataset = stored(tmp_path, ROWS + 1)
    [first] = copied(tmp_path)
    shutil.copy(first, first.with_name("again.parquet"))  # two drivers copied at the same time
    assert dataset.runs() == own(tmp_path)


def test_a_run_whose_file_was_changed_or_is_gone_has_no_copy(tmp_path: Path) -> None:
    dataset = stored(tmp_path, 2 * ROWS)
    dataset.copy_runs()
    files = sorted((tmp_path / "runs").rglob("*.parquet"))
    [row] = pq.read_table(files[3], partitioning=None).to_pylist()
    pq.write_table(as_table("runs", [row | {"repeat": 77}]), files[3])
    os.utime(files[4])
    files[5].unlink()
    assert [run["repeat"] for run in dataset.runs()] == [0, 1, 2, 77, 4, *range(6, 2 * ROWS)]
    counted(tmp_path).runs(columns=["repeat"])
    assert len(OPENED) == 2 + 2


@pytest.mark.parametrize("killed", ["while it copied", "before it copied"])
def test_a_data_set_whose_driver_was_killed_is_read_whole_and_copied_by_the_next(tmp_path: Path, killed: str) -> None:
    stored(tmp_path, ROWS)
    assert copied(tmp_path) == []
    if killed == "while it copied":
        (tmp_path / "_incoming" / "_runs-half").write_bytes(b"PAR1")
    assert len(DataSet.existing(str(tmp_path)).runs()) == ROWS
    assert DataSet.existing(str(tmp_path)).unfinished() == []
    DataSet.open(str(tmp_path)).copy_runs()
    assert len(copied(tmp_path)) == 1
    assert DataSet.existing(str(tmp_path)).runs() == own(tmp_path)


def test_files_that_are_not_their_runs_are_not_copied(tmp_path: Path) -> None:
    dataset = stored(tmp_path, ROWS)
    files = sorted((tmp_path / "runs").rglob("*.parquet"))
    shutil.copy(files[0], files[0].with_name("another.parquet"))
    files[1].write_bytes(files[1].read_bytes()[:-9])
    dataset.copy_runs()
    [copy] = copied(tmp_path)
    assert pq.read_table(copy)["run_id"].to_pylist() == [file.stem for file in files[:1] + files[2 : ROWS - 1]]


def test_a_copy_that_is_damaged_is_named_and_may_be_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path, ROWS).copy_runs()
    [copy] = copied(tmp_path)
    copy.write_bytes(copy.read_bytes()[:-9])
    assert main(["show", str(tmp_path)]) == 2
    assert f"cannot read {copy} (remove it: it is a copy)" in unwrapped(capsys.readouterr().err)
    copy.unlink()
    assert main(["show", str(tmp_path)]) == 0


def test_a_copy_that_differs_from_its_run_is_found_by_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = DataSet.open(str(tmp_path))
    for number in range(ROWS):
        write_run(dataset, f"run-{number}", host=f"host-{number}", repeat=number, seed=7 + number, config_json="{}")
    dataset.copy_runs()
    assert main(["verify", str(tmp_path)]) == 0
    [copy] = copied(tmp_path)
    table = pq.read_table(copy)
    faster = [2 * rate for rate in table["pages_per_s"].to_pylist()]
    at = table.column_names.index("pages_per_s")
    pq.write_table(table.set_column(at, table.schema.field(at), [faster]), copy)
    capsys.readouterr()
    assert main(["verify", str(tmp_path)]) == 1
    assert "run-3: its copy in _runs differs in pages_per_s; remove _runs, which is made again" in capsys.readouterr().out


def test_a_copy_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "dataset").mkdir()
    dataset = DataSet.open(str(tmp_path / "dataset"))
    (tmp_path / "dataset" / "_runs").write_text("in the way")
    for number in range(ROWS + 1):
        store(dataset, f"run-{number}")
    (tmp_path / "dataset" / "_runs").unlink()
    assert len(dataset.runs()) == ROWS + 1


def test_writing_a_copy_to_a_place_that_takes_none_is_an_error(tmp_path: Path) -> None:
    dataset = stored(tmp_path, 1)
    (tmp_path / "_runs").write_text("in the way")
    with pytest.raises(DataSetError, match="cannot copy the rows of runs"):
        copies.write_copy(dataset._location, dataset._infos("runs", None))
