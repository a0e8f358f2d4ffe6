"""Benchmark overhead: the driver's time a run, its CPU time while no page is accessed, 32 VMM actors."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from results.store.dataset import DataSet
from tests.bench.lines import Asked, Line
from tests.bench.loadgen_command import start, stored_runs, sweep
from tests.bench.process_tree import quietest, sampled

OVERHEAD_BAR_S = 0.3
ROUND_BAR_MS = 2.0
ROUND_VCPUS = 8
QUIET_S = 10.0
QUIET_VCPUS = 4

IDLE_ACTORS = f"""
import sys, time, ray
ray.init(include_dashboard=False, log_to_driver=False, num_cpus={QUIET_VCPUS + 1})
@ray.remote
class Idle:
    def ready(self):
        return True
actors = [Idle.remote() for _ in range({QUIET_VCPUS + 1})]
ray.get([actor.ready.remote() for actor in actors])
time.sleep({QUIET_S + 8})
"""


def overhead(asked: Asked) -> Iterator[Line]:
    """Everything of a run but fill, measured phase and full verification, at 4 vCPUs, after the sweep's first run."""
    repeats = 4 if asked.quick else 12
    with tempfile.TemporaryDirectory(dir=asked.build) as scratch:
        runs = sweep(["strategy=no_slow_gup", "vcpus=4", f"repeats={repeats}", "memory.region_mib=64"], Path(scratch))
    seconds = [run["overhead_s"] for run in runs[1:]]
    worst = max(seconds)
    yield Line(
        "overhead",
        "driver's own seconds a run, 4 vCPUs, after the first",
        f"{statistics.median(seconds):.3f} (worst {worst:.3f})",
        f"<= {OVERHEAD_BAR_S}",
        worst <= OVERHEAD_BAR_S,
        f"{len(seconds)} runs; the first: {runs[0]['overhead_s']:.3f} s",
    )


def between_rounds(asked: Asked) -> Iterator[Line]:
    """From the last vCPU's end of a round to the first one's start of the next, 8 VMM processes of one vCPU: of 256 pages, which
    are prepared in no time worth the name."""
    runs = [
        "strategy=no_slow_gup",
        f"vcpus={ROUND_VCPUS}",
        "memory.region_mib=1",
        "rounds_limit=200",
        "repeats=3",
        "measure_s=60",
    ]
    with tempfile.TemporaryDirectory(dir=asked.build) as scratch:
        sweep(runs, Path(scratch))
        rounds = DataSet.existing(f"{scratch}/dataset").read("rounds", ["run_id", "round", "start_ns", "end_ns"]).to_pylist()
    rounds.sort(key=lambda row: (row["run_id"], row["round"]))
    gaps = [(b["start_ns"] - a["end_ns"]) / 1e6 for a, b in pairwise(rounds) if a["run_id"] == b["run_id"]]
    middle = statistics.median(gaps)
    yield Line(
        "round",
        f"ms between two rounds of 1 MiB, {ROUND_VCPUS} VMM processes",
        f"{middle:.2f} (worst of 20: {statistics.quantiles(gaps, n=20)[-1]:.2f})",
        f"<= {ROUND_BAR_MS:.0f}",
        middle <= ROUND_BAR_MS,
        f"{len(gaps)} gaps",
    )


def quiet(asked: Asked) -> Iterator[Line]:
    """CPU time of a run without an access, beside as many idle Ray actors, by the same instrument; and what the
    run's own row says of both."""
    still = [
        "strategy=uffd_wait",
        f"vcpus={QUIET_VCPUS}",
        "repeats=1",
        "memory.region_mib=16",
        "access=none",
        f"access.hold_s={QUIET_S + 3}",
    ]
    with tempfile.TemporaryDirectory(dir=asked.build) as scratch:
        log = Path(scratch) / "loadgen.log"
        rig = cpu_of_quietest(start(still, Path(scratch), log), log)
        [row] = stored_runs(Path(scratch))
        log = Path(scratch) / "idle.log"
        with log.open("wb") as out:
            idle = cpu_of_quietest(
                subprocess.Popen(
                    [sys.executable, "-c", IDLE_ACTORS],
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "RAY_AUTH_MODE": "disabled"},
                ),
                log,
            )
    yield Line(
        "quiet",
        f"CPU seconds in {QUIET_S:.0f} s of a run without an access",
        f"{rig:.2f}",
        note=f"{QUIET_VCPUS + 1} idle Ray actors by themselves: {idle:.2f}; ours beyond them: {rig - idle:.2f}",
    )
    yield Line(
        "quiet",
        "the same as its run row has it: rig_cpu_share",
        f"{row['rig_cpu_share']:.3f} CPUs",
        note=f"idle_actors_cpu_share {row['idle_actors_cpu_share']:.3f} CPUs; {row['accesses']} accesses, {row['status']}",
    )


def cpu_of_quietest(process: subprocess.Popen[bytes], log: Path) -> float:
    """CPU seconds of the process's tree in its quietest stretch. Raises RuntimeError with its output when it failed."""
    samples = sampled(process.pid, lambda: process.poll() is None)
    if process.returncode != 0:
        raise RuntimeError(f"{process.args!r} ended with status {process.returncode}:\n{log.read_text()[-2000:]}")
    return quietest(samples, QUIET_S)


def actors(asked: Asked) -> Iterator[Line]:
    """32 VMM processes, each a Ray actor of one vCPU, one guest."""
    count = 32
    with tempfile.TemporaryDirectory(dir=asked.build) as scratch:
        runs = sweep(["strategy=no_slow_gup,uffd_wait", f"vcpus={count}", "repeats=1", "memory.region_mib=128"], Path(scratch))
    yield from ended("actors", f"{count} VMM actors run to the end", runs)


def ended(case: str, measure: str, runs: Sequence[dict[str, object]]) -> Iterator[Line]:
    """A line a run: met when its status is ok."""
    for run in runs:
        rate = run["pages_per_s"]
        said = f"{rate / 1e3:.0f} kpages/s" if isinstance(rate, float) else ""
        yield Line(case, f"{measure}, {run['strategy']}", said, "ok", run["status"] == "ok", str(run["reason"] or ""))


CASES = {"overhead": overhead, "round": between_rounds, "quiet": quiet, "actors": actors}
