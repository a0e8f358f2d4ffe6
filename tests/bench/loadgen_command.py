"""The `loadgen` command as a user types it, with a data set of its own: what a bench of the whole rig runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.store.dataset import DataSet

QUIET = ("hydra.run.dir={scratch}/run", "hydra.sweep.dir={scratch}/sweep", "dataset={scratch}/dataset")


def loadgen_arguments(overrides: Sequence[str], scratch: Path) -> list[str]:
    """The command line of a sweep with `overrides` that leaves everything under `scratch`."""
    program = Path(sys.executable).parent / "loadgen"
    return [str(program), "-m", *overrides, *(setting.format(scratch=scratch) for setting in QUIET)]


def start(overrides: Sequence[str], scratch: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a sweep; what it prints goes to `log`."""
    with log.open("wb") as out:
        return subprocess.Popen(
            loadgen_arguments(overrides, scratch),
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "COLUMNS": "200"},
        )


def sweep(overrides: Sequence[str], scratch: Path) -> list[dict[str, Any]]:
    """Run a sweep to its end; the rows of `runs`, oldest first. Raises RuntimeError with the end of what it printed."""
    log = scratch / "loadgen.log"
    status = start(overrides, scratch, log).wait()
    if status != 0:
        raise RuntimeError(f"loadgen {' '.join(overrides)} ended with status {status}:\n{log.read_text()[-2000:]}")
    return stored_runs(scratch)


def stored_runs(scratch: Path) -> list[dict[str, Any]]:
    """The rows of `runs` that sweeps have left under `scratch`, oldest first."""
    rows: list[dict[str, Any]] = DataSet.existing(str(scratch / "dataset")).read("runs").sort_by("started_at").to_pylist()
    return rows
