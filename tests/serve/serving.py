"""`loadgen-serve` as a process, and the C VMM of tests/peers as its clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tests.peers.build import peer

PAGE = 4096
TIMEOUT_S = 120


class Serving:
    """The process, its socket, and its events as they come."""

    def __init__(self, folder: Path, snapshot: Path, *options: str) -> None:
        self.socket, self.snapshot = folder / "serve.sock", snapshot
        command = [sys.executable, "-m", "loadgen.serve.command", "--socket", str(self.socket), "--snapshot", str(snapshot)]
        self.process = subprocess.Popen(
            [*command, "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        self.events: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        """The next event of this kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == event:
                return self.events[-1]
        raise AssertionError(f"no event {event}: {self.process.wait()} {self.process.stderr and self.process.stderr.read()}")

    def vmm(self, *options: str) -> subprocess.Popen[str]:
        """A VMM that connects."""
        return vmm(self.socket, self.snapshot, *options)

    def served(self, *options: str, status: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a VMM came to, by its own words and by the server's."""
        said = finished(self.vmm(*options), status)
        return said, self.until("vmm_ended")

    def end(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        self.events += [json.loads(line) for line in self.process.stdout]
        return self.process.wait(TIMEOUT_S)


@contextmanager
def serving(folder: Path, snapshot: Path, *options: str) -> Iterator[Serving]:
    """It listens; it is ended, if the test has not done that."""
    server = Serving(folder, snapshot, *options)
    try:
        server.until("serving")
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate(timeout=TIMEOUT_S)


def vmm(socket: Path, memory: Path, *options: str) -> subprocess.Popen[str]:
    """A VMM that connects to whatever listens."""
    command = [peer("vmm"), str(socket), str(memory), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(vmm: subprocess.Popen[str], status: int = 0) -> dict[str, Any]:
    """The last line of a VMM that ends with this status; empty when it printed none."""
    out, err = vmm.communicate(timeout=TIMEOUT_S)
    assert vmm.returncode == status, (vmm.returncode, out, err)
    return dict(json.loads(out)) if out else {}


def snapshot(path: Path, pages: int, *, zeros: int = 0, hole: int = 0) -> Path:
    """Random contents, every `zeros`th page of zeros, the last `hole` pages without blocks."""
    contents = np.random.default_rng(pages).integers(1, 256, (pages, PAGE), np.uint8)
    if zeros:
        contents[::zeros] = 0
    with open(path, "wb") as file:
        file.write(contents[: pages - hole].tobytes())
        file.truncate(pages * PAGE)
    return path


def descriptors_of(pid: int) -> int:
    """Descriptors that a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
