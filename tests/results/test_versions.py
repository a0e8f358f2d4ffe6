"""Data sets of older schema versions stay readable. Each of `data/` was written by the code of its version."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from results.app import main
from results.schema import COLUMNS, SCHEMA_VERSION
from results.store.dataset import DataSet
from results.store.locations import DataSetError
from tests.results.rows import store

DATA = Path(__file__).parent / "data"
OLDER = [f"version-{version}" for version in range(1, SCHEMA_VERSION)]


def test_every_older_version_has_its_data_set_here() -> None:
    assert sorted(folder.name for folder in DATA.iterdir()) == OLDER


@pytest.mark.parametrize("folder", OLDER)
def test_an_older_data_set_is_read_with_what_it_lacks_as_null(folder: str) -> None:
    dataset = DataSet.existing(str(DATA / folder))
    assert f"version-{dataset.version}" == folder
    runs = dataset.read("runs").to_pylist()
    assert {(run["status"], run["schema_version"]) for run in runs} == {("ok", dataset.version)}
    assert all(run["pages_per_s"] > 0 and run["overhead_s"] > 0 for run in runs)
    for table, columns in COLUMNS.items():
        assert dataset.read(table).column_names == [column.name for column in columns]
    assert dataset.read("vcpus", ["vcpu"]).num_rows == 2 * len(runs)
    assert dataset.read("faults").num_rows == sum(run["fault_records"] for run in runs)


def test_version_1_has_no_threads_and_does_not_say_whether_to_trust_it() -> None:
    dataset = DataSet.existing(str(DATA / "version-1"))
    assert dataset.read("threads").num_rows == 0
    runs = dataset.read("runs", ["trusted", "distrust", "command", "rig_cpu_share"]).to_pylist()
    assert [set(run.values()) for run in runs] == [{None}] * 2


@pytest.mark.parametrize("folder", OLDER)
@pytest.mark.parametrize("command", [["show"], ["table"], ["table", "--value", "overhead_s"], ["export", "--table", "threads"]])
def test_an_older_data_set_is_reported_on(folder: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, str(DATA / folder)]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("folder", OLDER)
def test_a_run_is_not_added_to_an_older_data_set_and_the_way_out_is_named(folder: str, tmp_path: Path) -> None:
    copy = shutil.copytree(DATA / folder, tmp_path / "dataset")
    expected = (
        f"data set {copy} holds schema version {folder.removeprefix('version-')} and can be read, but this package writes "
        f"version {SCHEMA_VERSION} and a data set holds one only: use a data set elsewhere for new runs"
    )
    for attempt in (lambda: DataSet.open(str(copy)), lambda: store(DataSet.existing(str(copy)), "run-a")):
        with pytest.raises(DataSetError) as caught:
            attempt()
        assert str(caught.value) == expected
    assert DataSet.existing(str(copy)).read("runs").num_rows == 2
