"""A Ray cluster of several nodes: real heads and workers as processes of their own, on this machine or on machines of the test,
at an address and in a folder of their own, gone with the test."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.command import environment

CONNECT = {"RAY_AUTH_MODE": "disabled"}
"""What a driver needs to know of the cluster's authentication."""
ROOT = Path(__file__).resolve().parents[2]
STARTS = 3
"""How often a node is started that gives up before it has joined, as it does on a machine that is too busy."""
JOIN_S = 150.0


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
) -> Iterator[str]:
    """A node at each place, the first of them the head, whose address this is; all have joined. `folder`: where Ray and the
    actors keep their files, those of machines that lose their power too; `settings`: environment variables that all nodes get."""
    env = environment() | {"TMPDIR": folder} | CONNECT | dict(settings or {})
    address = f"{places[0].address}:{free_port()}"
    port = address.rpartition(":")[2]
    nodes: list[_Node] = []
    try:
        nodes.append(_Node(f"{folder}/0", env, places[0], "--head", f"--port={port}", "--no-monitor", *head_options))
        _wait_for_all(address, places[0], env, nodes)  # a worker that comes before the head's own node gives up
        nodes += [_Node(f"{folder}/{n}", env, place, f"--address={address}") for n, place in enumerate(places[1:], 1)]
        _wait_for_all(address, places[0], env, nodes)
        yield address
    finally:
        for node in reversed(nodes):
            node.end()
        for node in nodes:
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
        self._folder, self._env, self._place = folder, env, place
        self._starts = 0
        self.process = self._start()

    def see_to(self) -> None:
        """Start it again when it has given up. Raises AssertionError with its last words when it did so too often."""
        if self.process.poll() is not None:
            self.process = self._start()

    def end(self) -> None:
        """Tell it to end."""
        self._place.end(self.process)

    def wait(self) -> None:
        """Until it has ended, after it was stopped."""
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        said = Path(self._folder, "said.log")
        assert self._starts < STARTS, f"a node does not start: {said.read_text()[-2000:]}"
        self._starts += 1
        with said.open("wb") as output:
            return subprocess.Popen(self._command, env=dict(self._env), cwd=self._folder, stdout=output, stderr=output)


def _wait_for_all(address: str, head: Place, env: Mapping[str, str], nodes: Sequence[_Node]) -> None:
    """Until all of them have joined; one that gives up meanwhile is started again."""
    command = [*head.prefix, head.python, "-m", "tests.cluster.joined", address, str(len(nodes))]
    deadline = time.monotonic() + JOIN_S
    with subprocess.Popen(command, env=dict(env), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as waiter:
        try:
            while waiter.poll() is None:
                assert time.monotonic() < deadline, f"not within {JOIN_S} s: {len(nodes)} nodes of {address}"
                for node in nodes:
                    node.see_to()
                time.sleep(0.1)
        finally:
            waiter.kill()
    assert waiter.returncode == 0, "the nodes cannot be counted"
