"""The installed commands, run as a user runs them, each in a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

BIN = Path(sys.executable).parent


@cache
def temporary() -> str:
    """The temporary folder of this process's drivers, apart from those of other tests that run beside them. Its name is short,
    for Unix sockets lie below it."""
    return tempfile.mkdtemp(prefix="ult-")


def remove_temporary() -> None:
    """Remove it, if drivers were given one: before this process ends."""
    if temporary.cache_info().currsize:
        shutil.rmtree(temporary(), ignore_errors=True)


def run(
    folder: Path, command: str, *arguments: str, timeout_s: float = 100, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `loadgen`, `loadgen-doctor` or `loadgen-report` in `folder`; `settings`: environment variables of its own. A run keeps
    one round unless the arguments say how many: tests count."""
    arguments = (*arguments, "measure_s=0") if command == "loadgen" and _runs(arguments) else arguments
    return run_program(folder, str(BIN / command), *arguments, timeout_s=timeout_s, settings=settings)


def _runs(arguments: Sequence[str]) -> bool:
    overrides = any("=" in one and not one.startswith("-") for one in arguments)
    return overrides and not any(one.startswith("measure_s=") or "help" in one for one in arguments)


def run_program(
    folder: Path, *command: str, timeout_s: float, settings: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run any program in `folder`, in the environment of the commands."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment() | dict(settings or {}),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def start(
    folder: Path, *arguments: str, stdout: IO[str] | int = subprocess.DEVNULL, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[str]:
    """Start `loadgen` in `folder`, in a process group of its own."""
    return subprocess.Popen(
        [str(BIN / "loadgen"), *arguments, *(["measure_s=0"] if _runs(arguments) else [])],
        cwd=folder,
        env=environment(),
        stdout=stdout,
        stderr=stderr,
        text=True,
        start_new_session=True,
        preexec_fn=_as_from_a_shell,
    )


def _as_from_a_shell() -> None:
    """A process that is started in the background, or under nohup, ignores these signals, and so do its children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def environment() -> dict[str, str]:
    """As a fresh shell has it: Ray settles its authentication by itself, tables are as wide as they are, nothing is in the
    home."""
    own = {"COLUMNS": "250", "TMPDIR": temporary(), "HOME": temporary()}
    return {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | own
