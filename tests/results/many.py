"""Data sets too large to be made by runs: through the store's own writer, with stages and rates that look like those of runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from results.store.dataset import DataSet
from tests.results.rows import FAULT_DTYPE, run_row, vcpu_rows

KINDS = ("hit", "minor", "absent", "swapped", "poisoned")
OUTCOMES = ("resolved", "waited", "lost_race", "populated", "kernel")
STRATEGIES = {"uffd_wait": 40.0, "no_uffd_wait": 5.0, "no_slow_gup": 3.0}
"""Microseconds a fault takes."""
VCPUS = (1, 2, 4, 8, 16)
MIXES = {"minor": 0.0, "swapped_quarter": 0.25, "swapped_half": 0.5}
"""Share of swapped pages."""
CHUNK = 1 << 18
FURTHER = {f"group_{group}": {f"key_{key}": group * key for key in range(10)} for group in range(10)}
"""Keys that do not vary: a real configuration has about as many."""


def make(path: str, runs: int, faults: int, *, open_loop: bool = False) -> DataSet:
    """`runs` runs, which differ in strategy, vCPUs, mix and repeat, with `faults` faults between them, as a sweep leaves them."""
    dataset = DataSet.open(path)
    cells = [(strategy, vcpus, mix) for strategy in STRATEGIES for vcpus in VCPUS for mix in MIXES]
    repeats = -(-runs // len(cells))
    rng = np.random.default_rng(1)
    pool = _records(rng, min(CHUNK, max(faults // runs, 1)), open_loop)
    for number in range(runs):
        repeat, cell = divmod(number, len(cells))
        strategy, vcpus, mix = cells[cell]
        count = faults // runs + (number < faults % runs)
        with dataset.writer(f"run-{number:06}", "sweep-1") as writer:
            for start in range(0, count, len(pool)):
                chunk = _as_of(pool[: min(len(pool), count - start)], rng, STRATEGIES[strategy], MIXES[mix])
                writer.faults(KINDS, OUTCOMES).add(rng.integers(0, vcpus, len(chunk)).astype(np.uint16), chunk)
            us = STRATEGIES[strategy] * (1 + 3 * MIXES[mix] * (strategy == "no_slow_gup"))
            rate = 1e6 / us * vcpus / (1 + 0.1 * (vcpus - 1) + 0.01 * vcpus * (vcpus - 1)) * rng.lognormal(0, 0.03)
            writer.commit(_row(strategy, vcpus, mix, repeat, repeats), vcpu_rows(1e6 / rate), [])
    dataset.copy_runs()
    return dataset


MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@dataclass(frozen=True)
class Took:
    """What a `loadgen-report` command took, in a process of its own."""

    seconds: float
    peak_mib: float


def report(folder: Path) -> Took:
    """Report on folder/dataset into folder/report.html."""
    return command(folder, "report", "dataset", "--out", "report.html")


def command(folder: Path, *arguments: str) -> Took:
    """Run `loadgen-report` in the folder."""
    words = [str(Path(sys.executable).parent / "loadgen-report"), *arguments]
    began = time.monotonic()
    # A small process starts it: on Linux a child's peak begins with what its parent held when it was started.
    done = subprocess.run([sys.executable, "-c", MEASURE, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Took(time.monotonic() - began, int(done.stdout.split()[-1]) / 1024)


def _row(strategy: str, vcpus: int, mix: str, repeat: int, repeats: int) -> dict[str, object]:
    config = {
        **FURTHER,
        "strategy": {"name": strategy, "fault_around_pages": 1},
        "fault_mix": {"name": mix, "minor": 1 - MIXES[mix], "swapped": MIXES[mix]},
        "vcpus": vcpus,
        "repeat": repeat,
        "repeats": repeats,
        "seed": repeat,
    }
    return run_row(
        strategy=strategy,
        vcpus=vcpus,
        cores=16,
        fault_mix=mix,
        repeat=repeat,
        command="loadgen -m made=up",
        config_json=json.dumps(config),
        trusted=True,
        sample_every=1,
        emulated_exit_ns=300.0,
    )


def _records(rng: np.random.Generator, count: int, open_loop: bool) -> npt.NDArray[np.void]:
    records = np.zeros(count, FAULT_DTYPE)
    records["raised_ns"] = 10**15 + 2000 * np.arange(count, dtype=np.uint64)
    if open_loop:
        records["intended_ns"] = records["raised_ns"] - rng.integers(0, 20_000, count).astype(np.uint64)
    records["page"] = rng.integers(0, 1 << 20, count)
    records["cpu"] = rng.integers(0, 2, count)
    return records


def _as_of(pool: npt.NDArray[np.void], rng: np.random.Generator, us: float, swapped: float) -> npt.NDArray[np.void]:
    records = pool.copy()
    at = records["raised_ns"]
    slow = np.where(rng.random(len(records)) < 0.3, 4.0, 1.0)
    for stage, share in (("delivered_ns", 0.3), ("fetched_ns", 0.1), ("installed_ns", 0.3), ("resumed_ns", 0.3)):
        at = at + (1000 * us * share * slow * rng.lognormal(0, 0.3, len(records))).astype(np.uint64)
        records[stage] = at
    records["kind"] = np.where(rng.random(len(records)) < swapped, KINDS.index("swapped"), KINDS.index("minor"))
    records["outcome"] = rng.integers(0, 2, len(records))
    return records
