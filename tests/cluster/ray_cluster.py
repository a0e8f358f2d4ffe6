"""A Ray cluster of several nodes: real heads and workers as processes of their own, on this machine or on machines of the test,
at an address and in a folder of their own, gone with the test."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.command import environment
from tests.wait import wait_for

CONNECT = {"RAY_AUTH_MODE": "disabled"}
"""What a driver needs to know of the cluster's authentication."""
STARTS = 3
"""How often a node is started that gives up before it has joined, as it does on a machine that is too busy."""
JOIN_S = 150.0
STARTED = "Ray runtime started"
"""`ray start` prints it when the head has registered the node."""


@dataclass(frozen=True)
class Place:
    """Where a node runs: what comes before its command (`taskset -c 0`), its address, the Python it runs on, and what ends it;
    `ray start --block` ends its processes with itself."""

    prefix: Sequence[str] = ()
    address: str = "127.0.0.1"
    python: str = sys.executable
    end: Callable[[subprocess.Popen[bytes]], None] = subprocess.Popen.terminate


@contextlib.contextmanager
def short_folder() -> Iterator[str]:
    """A temporary folder whose name is short, for Unix sockets lie below it."""
    folder = tempfile.mkdtemp(prefix="ulgt-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ray_cluster(
    folder: str, places: Sequence[Place], *head_options: str, settings: Mapping[str, str] | None = None
) -> Iterator[RayCluster]:
    """A node at each place, the first of them the head; all have joined. `folder`: where Ray and the actors keep their files,
    those of machines that lose their power too; `settings`: environment variables that all nodes get."""
    cluster = RayCluster(folder, places[0], settings or {})
    try:
        cluster.add(places[0], "--head", f"--port={cluster.address.rpartition(':')[2]}", "--no-monitor", *head_options)
        cluster.wait()  # a worker that comes before the head's own node gives up
        for place in places[1:]:
            cluster.add(place)
        cluster.wait()
        yield cluster
    finally:
        cluster.end()


class RayCluster:
    """The nodes of one cluster, and `address`, its head's. Nodes may be lost and others may join."""

    def __init__(self, folder: str, head: Place, settings: Mapping[str, str]) -> None:
        self.address = f"{head.address}:{free_port()}"
        self._folder = folder
        self._env = environment() | {"TMPDIR": folder} | CONNECT | dict(settings)
        self._nodes: list[_Node] = []

    def add(self, place: Place, *role: str) -> None:
        """Start a node there, without `role` one that joins the head."""
        folder = f"{self._folder}/{len(self._nodes)}"
        self._nodes.append(_Node(folder, self._env, place, *(role or [f"--address={self.address}"])))

    def wait(self) -> None:
        """Until all that were started have joined; one that gives up before is started again."""
        for node in self._nodes:
            wait_for(node.joined, f"a node at {node.place.address}, which joins {self.address}", JOIN_S)

    def end(self) -> None:
        """End all of them."""
        for node in reversed(self._nodes):
            node.end()
        for node in self._nodes:
            node.wait()


def free_port() -> int:
    """A port of this host that no socket listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class _Node:
    """One `ray start`. `folder`: of its own, for nodes that start beside each other in one take the same names of sockets, and
    all but the first give up."""

    def __init__(self, folder: str, env: Mapping[str, str], place: Place, *role: str) -> None:
        own = [f"--node-ip-address={place.address}", f"--temp-dir={folder}"]
        common = ["--object-store-memory=100000000", "--num-cpus=1", "--include-log-monitor=false", "--block"]
        self._command = [*place.prefix, place.python, "-m", "ray.scripts.scripts", "start", *role, *own, *common]
        Path(folder).mkdir()
        self._folder, self._env, self.place = folder, env, place
        self._said = Path(folder, "said.log")
        self._starts, self._joined = 0, False
        self.process = self._start()

    def joined(self) -> bool:
        """Whether it has, once. One that gave up before is started again. Raises AssertionError with its last words when it did
        so too often."""
        if not self._joined and self.process.poll() is not None:
            self.process = self._start()
        self._joined = self._joined or STARTED in self._said.read_text()
        return self._joined

    def end(self) -> None:
        """Tell it to end."""
        self.place.end(self.process)

    def wait(self) -> None:
        """Until it has ended, after it was stopped."""
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        assert self._starts < STARTS, f"a node does not start: {self._said.read_text()[-2000:]}"
        self._starts += 1
        with self._said.open("wb") as output:
            return subprocess.Popen(self._command, env=dict(self._env), cwd=self._folder, stdout=output, stderr=output)
