"""A data set in object storage."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from results.store.dataset import DataSet, DataSetError
from tests.object_store import CREDENTIALS, s3_server
from tests.results.rows import run_row, store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URIs in a bucket, the query naming the server; their paths are to be filled in."""
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for key, value in CREDENTIALS.items():
            patch.setenv(key, value)
        yield f"s3://bucket/{{}}?scheme=http&endpoint_override={server}&region=us-east-1"


def test_runs_are_stored_in_a_bucket_and_read_from_it(bucket: str) -> None:
    uri = bucket.format("results/one")
    store(DataSet.open(uri), "run-a", latencies_ns=[10, 20, 30])
    store(DataSet.open(uri), "run-b")
    dataset = DataSet.existing(uri)
    assert sorted(row["run_id"] for row in dataset.read("runs", ["run_id"]).to_pylist()) == ["run-a", "run-b"]
    assert dataset.read("faults").num_rows == 3
    assert dataset.unfinished() == []
    with pytest.raises(DataSetError, match="run run-a is already there"):
        store(DataSet.open(uri), "run-a")


def test_a_run_in_a_bucket_is_invisible_until_it_is_committed(bucket: str) -> None:
    dataset = DataSet.open(bucket.format("two"))
    writer = dataset.writer("run-a", "sweep")
    assert dataset.read("runs").num_rows == 0
    writer.discard()
    assert dataset.read("runs").num_rows == 0
    with dataset.writer("run-b", "sweep") as again:
        again.commit(run_row(), [])
    assert dataset.read("runs").num_rows == 1


def test_runs_in_a_bucket_are_copied_and_read_from_the_copy(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("results.store.dataset.ROWS", 3)
    dataset = DataSet.open(bucket.format("three"))
    for number in range(3):
        store(dataset, f"run-{number}", repeat=number)
    rows = dataset.runs()
    dataset.copy_runs()
    assert [copy is not None for _, _, copy in dataset.stored()] == [True] * 3
    assert dataset.runs() == rows and dataset.unfinished() == []


def test_a_bucket_that_is_not_there_is_an_error_of_one_line(bucket: str) -> None:
    with pytest.raises(DataSetError) as caught:
        DataSet.open(bucket.format("x").replace("s3://bucket/", "s3://nowhere/"))
    assert "nowhere" in str(caught.value)
