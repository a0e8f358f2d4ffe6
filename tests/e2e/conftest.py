"""Drivers that a test starts and does something to while they run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e import processes
from tests.e2e.command import start as start_in

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`loadgen` with these arguments in the test's folder; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        started.append(start_in(tmp_path, *arguments))
        return started[-1]

    yield start
    for process in started:
        processes.end(process)
