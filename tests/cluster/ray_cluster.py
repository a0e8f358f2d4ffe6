"""A Ray cluster of several nodes on this machine: real heads and workers as processes of their own, at an address and in a
folder of their own, gone with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence

from tests.e2e.command import environment

CONNECT = {"RAY_AUTH_MODE": "disabled"}
"""What a driver needs to know of the cluster's authentication."""


@contextlib.contextmanager
def ray_cluster(prefixes: Sequence[Sequence[str]], *head_options: str) -> Iterator[str]:
    """A node for each of `prefixes`, which come before its command (`taskset -c 0`); the address of the head."""
    folder = tempfile.mkdtemp(prefix="ulgt-")
    port = _free_port()
    address = f"127.0.0.1:{port}"
    common = ["--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--num-cpus=1", "--block"]
    nodes: list[subprocess.Popen[bytes]] = []
    try:
        for number, prefix in enumerate(prefixes):
            role = ["--head", f"--port={port}", f"--temp-dir={folder}"] if number == 0 else [f"--address={address}"]
            options = head_options if number == 0 else ()
            nodes.append(
                subprocess.Popen(
                    [*prefix, sys.executable, "-m", "ray.scripts.scripts", "start", *role, *common, *options],
                    env=environment() | CONNECT,
                    cwd=folder,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
            if number == 0:
                _wait_for_port(port, nodes[0])
                wait_for_nodes(address, 1)  # a worker that comes before the head's own node gives up
        yield address
    finally:
        for node in reversed(nodes):
            node.terminate()  # ray start --block ends its processes with itself
        for node in nodes:
            try:
                node.wait(timeout=20)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_for_port(port: int, head: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert head.poll() is None, "the head node ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise AssertionError("the head node does not listen")


def wait_for_nodes(address: str, count: int) -> None:
    """Until so many nodes have joined; the head's port listens before its own node has."""
    code = (
        "import ray, time\n"
        "while not ray.is_initialized():\n"
        "    try:\n"
        f"        ray.init(address={address!r}, log_to_driver=False)\n"
        "    except Exception:\n"
        "        time.sleep(0.5)\n"
        f"while sum(one['Alive'] for one in ray.nodes()) < {count}: time.sleep(0.2)\n"
    )
    env = environment() | CONNECT | {"PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=100, capture_output=True)
