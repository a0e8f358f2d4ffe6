"""Object storage of the tests' own: moto's S3 server, as a process of its own on loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pyarrow.fs

from tests.cluster.ray_cluster import free_port

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
START_S = 60.0


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Its address (host and port); it holds an empty bucket named `bucket`, and goes with the test."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_listens(server, port)
        filesystem = pyarrow.fs.S3FileSystem(
            access_key=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            secret_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=f"127.0.0.1:{port}",
            scheme="http",
            region=CREDENTIALS["AWS_DEFAULT_REGION"],
            allow_bucket_creation=True,
        )
        filesystem.create_dir("bucket")
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _wait_until_it_listens(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert server.poll() is None and time.monotonic() < deadline, "moto's server does not listen"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
