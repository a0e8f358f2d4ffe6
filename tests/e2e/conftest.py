"""Drivers that a test starts and does something to while they run, and one real sweep that several tests look at."""

from __future__ import annotations

import fcntl
import pickle
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from tests.e2e import events, processes
from tests.e2e.command import run
from tests.e2e.command import start as start_in
from tests.e2e.in_session import Bench, InSession

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`loadgen --json` with these arguments in the test's folder, its events in a file; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        with events.file_in(tmp_path).open("w") as file:
            started.append(start_in(tmp_path, "--json", *arguments, stdout=file, stderr=subprocess.PIPE))
        return started[-1]

    yield start
    for process in started:
        processes.end(process)


@pytest.fixture(scope="module")
def session() -> Iterator[InSession]:
    """A driver's session for the tests of a file."""
    with InSession() as started:
        yield started


@pytest.fixture
def bench(session: InSession, tmp_path: Path) -> Bench:
    """Makes runs in it, into the data set `dataset` of the test's folder."""
    return Bench(session, tmp_path / "dataset")


@dataclass(frozen=True)
class Sweep:
    """`folder`: where it ran, with outputs/dataset; `left`: folders it left behind outside it."""

    folder: Path
    done: subprocess.CompletedProcess[str]
    left: set[str]


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Sweep:
    """Two strategies, two numbers of vCPUs, two mixes, two repeats: 16 runs of 1024 pages. Made once for all processes that tests
    run in; none may change it."""
    if worker_id == "master":
        return made(tmp_path_factory.mktemp("sweep"))
    folder = tmp_path_factory.getbasetemp().parent / "sweep"
    folder.mkdir(exist_ok=True)
    with (folder / "made").open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        if stored := file.read():
            return cast("Sweep", pickle.loads(stored))
        found = made(folder)
        file.write(pickle.dumps(found))
        return found


def made(folder: Path) -> Sweep:
    before = processes.folders()
    done = run(
        folder,
        "loadgen",
        "-m",
        "strategy=uffd_wait,no_slow_gup",
        "vcpus=1,2",
        "fault_mix=minor,absent",
        "memory.region_mib=4",
        "repeats=2",
        timeout_s=500,
    )
    assert done.returncode == 0, done.stderr
    return Sweep(folder, done, processes.folders() - before)
