"""A data set in object storage: moto's S3 server, as a process of its own on loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pyarrow.fs
import pytest

from results.store import DataSet, DataSetError
from tests.results.rows import run_row, store


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The start of URIs in a bucket, without the query that names the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None and time.monotonic() < deadline, "moto's server does not listen"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                patch.setenv(key, "test")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            filesystem = pyarrow.fs.S3FileSystem(
                endpoint_override=f"127.0.0.1:{port}", scheme="http", region="us-east-1", allow_bucket_creation=True
            )
            filesystem.create_dir("bucket")
            yield f"s3://bucket/{{}}?scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1"
    finally:
        server.kill()
        server.wait()


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


def test_a_bucket_that_is_not_there_is_an_error_of_one_line(bucket: str) -> None:
    with pytest.raises(DataSetError) as caught:
        DataSet.open(bucket.format("x").replace("s3://bucket/", "s3://nowhere/"))
    assert "nowhere" in str(caught.value)
