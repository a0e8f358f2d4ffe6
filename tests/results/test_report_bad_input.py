"""What `loadgen-report` refuses: exit status 2, one line that says what is wrong, nothing written, no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.app import main
from results.store.dataset import DataSet
from tests.results.rows import store

COMPARED = ("compare", "{there}", "--by", "strategy=uffd_wait,no_uffd_wait")

REFUSED = (
    (("export", "{there}", "--columns", "run_id,nosuch"), "--columns run_id,nosuch: runs has no column 'nosuch'; it has: run_id"),
    (("export", "{there}", "--columns", "run_id,run_id"), "--columns run_id,run_id: run_id is named twice"),
    (("export", "{there}", "--columns", "run_id,"), "has no column ''"),
    (("stages", "{there}"), "none of 3 runs that are ok has fault records"),
    (("stages", "{there}", "--by", "nosuch"), "none of 3 runs"),
    (("table", "{there}", "--trusted-only"), "--trusted-only leaves none of 3 runs"),
    (("table", "{there}", "--where", "nosuch=1"), "runs has no column 'nosuch'"),
    (("table", "{there}", "--where", "strategy"), "--where strategy: give it as PARAMETER=VALUE"),
    (("table", "{there}", "--sweep", "nosuch"), "no sweep nosuch"),
    (("answer", "nosuch", "{there}"), "there is no question nosuch: use one of "),
    (("report", "{there}", "--out", "{folder}"), "give a file in a folder that is there"),
    ((*COMPARED, "--across", "nosuch"), "--across nosuch: runs has no column 'nosuch'"),
    ((*COMPARED, "--repeats", "0"), "--repeats 0: give at least 1"),
    ((*COMPARED, "--repeats", "-2"), "--repeats -2: give at least 1"),
    ((*COMPARED, "--fail-above", "nan"), "--fail-above nan: give a percentage"),
    ((*COMPARED, "--fail-above", "-5"), "--fail-above -5: give a percentage"),
    ((*COMPARED, "--margin", "inf"), "--margin inf: give a percentage"),
    (("compare", "{there}", "--by", "strategy=uffd_wait,uffd_wait"), "both values are uffd_wait"),
    (("compare", "{there}", "--by", "strategy=uffd_wait"), "give two values"),
    (("compare", "{there}", "--by", "nosuch=1,2"), "runs has no column 'nosuch'"),
    (("compare", "{there}"), "compare takes two data sets"),
    ((*COMPARED, "--value", "kernel"), "is not a number"),
    (("working-set", "{there}", "--run", "nosuch", "--out", "{folder}/x"), "there is no run nosuch"),
)


@pytest.fixture
def there(tmp_path: Path) -> str:
    dataset = DataSet.open(str(tmp_path / "there"))
    for repeat in (0, 1):
        store(dataset, f"wait-{repeat}", repeat=repeat)
    store(dataset, "exit", strategy="no_uffd_wait")
    return dataset.uri


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_it_is_refused(
    arguments: tuple[str, ...], words: str, there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([text.format(there=there, folder=tmp_path) for text in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("loadgen-report: ") and printed.err.count("\n") == 1 and words in printed.err


def test_an_export_that_is_refused_leaves_no_file(there: str, tmp_path: Path) -> None:
    assert main(["export", there, "--columns", "run_id,nosuch", "--out", str(tmp_path / "runs.csv")]) == 2
    assert not (tmp_path / "runs.csv").exists()


@pytest.mark.parametrize("command", ["show", "table", "stages", "export", "report"])
def test_a_parquet_file_of_something_else_is_named(
    command: str, there: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    [folder] = (Path(there) / "runs").iterdir()
    pq.write_table(pa.table({"x": [1, 2]}), folder / "foreign.parquet")
    assert main([command, there]) == 2
    assert f"{folder}/foreign.parquet is not a file of a data set" in capsys.readouterr().err


def test_verify_names_a_parquet_file_of_something_else(there: str, capsys: pytest.CaptureFixture[str]) -> None:
    [folder] = (Path(there) / "runs").iterdir()
    pq.write_table(pa.table({"x": [1, 2]}), folder / "foreign.parquet")
    assert main(["verify", there]) == 1
    assert f"foreign: cannot be read: {folder}/foreign.parquet is not a file of a data set" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["show", "table", "verify", "export"])
@pytest.mark.parametrize("more", [0, 20])
def test_a_full_disk_or_a_reader_that_has_gone_ends_it_without_a_traceback(command: str, more: int, there: str) -> None:
    for number in range(more):
        store(DataSet.open(there), f"more-{number}", repeat=number)
    program = [sys.executable, "-m", "results.app", command, there]
    with open("/dev/full", "w") as full:
        done = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "loadgen-report: [Errno 28] No space left on device\n")
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0
